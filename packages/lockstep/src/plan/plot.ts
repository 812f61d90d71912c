/** A plan as a picture: images per second over workers, both in powers of two, beside the straight line of a cluster without a network. */
import type { PlanRow } from './plan.js';

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [640, 400, 70, 46, 40, 20];

/** @param rows in the order of their workers @param title is escaped */
export function planPlot(rows: readonly PlanRow[], title: string): string {
  const [first] = rows as [PlanRow];
  const ideal = (workers: number) => (first.imagesPerSecond / first.efficiency / first.workers) * workers;
  const log = Math.log2;
  const [low, high] = [log(first.workers), Math.max(log((rows.at(-1) as PlanRow).workers), log(first.workers) + 1)];
  const bottom = Math.floor(log(Math.min(...rows.map((row) => row.imagesPerSecond))));
  const top = Math.max(Math.ceil(log(ideal((rows.at(-1) as PlanRow).workers))), bottom + 1);
  const x = (workers: number) => LEFT + ((log(workers) - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
  const y = (speed: number) => HEIGHT - BOTTOM - ((log(speed) - bottom) / (top - bottom)) * (HEIGHT - BOTTOM - TOP);
  const line = (speed: (row: PlanRow) => number) =>
    rows.map((row) => `${x(row.workers).toFixed(1)},${y(speed(row)).toFixed(1)}`).join(' ');
  const grid = Array.from({ length: top - bottom + 1 }, (_, i) => 2 ** (bottom + i)).map((speed) => {
    const at = y(speed).toFixed(1);
    return `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}" class="grid"/><text x="${LEFT - 8}" y="${at}" dy="4" text-anchor="end">${short(speed)}</text>`;
  });
  const ticks = rows.map(
    ({ workers }) =>
      `<text x="${x(workers).toFixed(1)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${workers}</text>`,
  );
  const dots = rows.map(
    (row) =>
      `<circle cx="${x(row.workers).toFixed(1)}" cy="${y(row.imagesPerSecond).toFixed(1)}" r="4"><title>${row.workers} workers: ${row.imagesPerSecond.toFixed(0)} images/s, ${(100 * row.efficiency).toFixed(0)} %, limited by ${row.limit}</title></circle>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escaped(title)}">
<style>
svg { background: #fff; font: 12px system-ui, sans-serif; fill: #333 }
.grid { stroke: #ddd }
.ideal { fill: none; stroke: #999; stroke-dasharray: 5 4 }
.speed { fill: none; stroke: #0072b2; stroke-width: 2 }
circle { fill: #0072b2 }
@media (prefers-color-scheme: dark) { svg { background: #16181d; fill: #ccc } .grid { stroke: #333 } .speed { stroke: #56b4e9 } circle { fill: #56b4e9 } }
</style>
<text x="${LEFT}" y="22" font-size="14">${escaped(title)}</text>
${grid.join('\n')}
${ticks.join('\n')}
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 8}" text-anchor="middle">workers (dashed: without a network)</text>
<text transform="translate(14 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">images/s</text>
<polyline points="${line((row) => ideal(row.workers))}" class="ideal"/>
<polyline points="${line((row) => row.imagesPerSecond)}" class="speed"/>
${dots.join('\n')}
</svg>
`;
}

function short(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))} M`;
  if (value >= 1e4) return `${Number((value / 1e3).toPrecision(3))} k`;
  return String(Number(value.toPrecision(3)));
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
