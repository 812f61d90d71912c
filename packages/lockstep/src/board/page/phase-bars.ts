/** Times by phase as bars below each other: of runs, or of a step's replicas. */
import { PHASES, phaseColor } from './colors.js';
import { h, show } from './dom.js';

export interface BarRow {
  readonly name: string;
  /** Of the run; absent for what has none. */
  readonly swatch?: string;
  /** Milliseconds. */
  readonly times: readonly (readonly [phase: string, ms: number])[];
  /** Said below the bar. */
  readonly note?: string;
  readonly isMarked?: boolean;
}

export function phaseLegend(isDark: boolean): HTMLElement {
  return h(
    'div',
    { class: 'legend' },
    ...PHASES.map((phase) => h('span', {}, h('i', { style: { background: phaseColor(phase, isDark) } }), phase)),
  );
}

export function phaseBars(rows: readonly BarRow[], isDark: boolean): HTMLElement {
  const sums = rows.map(({ times }) => times.reduce((sum, [, ms]) => sum + ms, 0));
  const longest = Math.max(...sums, 1e-9);
  return h(
    'div',
    { class: 'bars', role: 'list' },
    ...rows.map(({ name, swatch, times, note, isMarked }, i) =>
      h(
        'div',
        {
          class: isMarked ? 'bar-row marked' : 'bar-row',
          role: 'listitem',
          'aria-label': `${name}: ${times.map(([phase, ms]) => `${phase} ${show(ms)} ms`).join(', ')}`,
        },
        h(
          'span',
          { class: 'bar-name', title: name },
          swatch !== undefined && h('i', { style: { background: swatch } }),
          name,
        ),
        h(
          'span',
          { class: 'phase-bar' },
          ...times.map(([phase, ms]) =>
            h('i', {
              title: `${phase}: ${show(ms)} ms, ${((100 * ms) / (sums[i] || 1)).toFixed(0)} %`,
              style: { width: `${(100 * ms) / longest}%`, background: phaseColor(phase, isDark) },
            }),
          ),
        ),
        h('span', { class: 'bar-note' }, `${show(sums[i])} ms`),
        note !== undefined && h('span', { class: 'bar-remark' }, note),
      ),
    ),
  );
}
