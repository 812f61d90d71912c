/** The phases of a step over one run, stacked: how long steps took, and what for. */
import uPlot from 'uplot';
import type { SeriesAnswer } from '../protocol.js';
import { PHASES, phaseColor } from './colors.js';
import { fill, h, show } from './dom.js';
import { lineOf } from './lines.js';
import type { Loader } from './loader.js';
import { axes, cursor, plotColors, zoomHooks } from './plot-style.js';
import type { Store } from './store.js';

const HEIGHT = 230;

export class PhaseChart {
  readonly element: HTMLElement;
  readonly #body = h('div', { class: 'plot' });
  readonly #tip = h('div', { class: 'tip', hidden: true });
  readonly #choice = h('select', {
    'aria-label': 'Run',
    onchange: () => this.store.set({ focus: Number(this.#choice.value) }),
  });
  readonly #stop: (() => void)[];
  #isSeen = true;
  #plot: uPlot | null = null;
  #answers: readonly (readonly SeriesAnswer[])[] = [];

  constructor(
    private readonly store: Store,
    private readonly loader: Loader,
  ) {
    this.element = h(
      'section',
      { class: 'card chart', 'aria-label': 'Phases of a step' },
      h('header', {}, h('h3', {}, 'Over the run'), this.#choice),
      this.#body,
    );
    const size = new ResizeObserver(() => this.#plot?.setSize(this.#size));
    size.observe(this.#body);
    const stop = store.listen((change) => {
      if (change === 'range') {
        if (this.#isSeen) this.#applyRange();
      } else if (change === 'theme') this.#draw();
      else if (change !== 'hover') void this.#load();
    });
    const seen = new IntersectionObserver(([entry]) => {
      this.#isSeen = entry?.isIntersecting ?? true;
      if (this.#isSeen) this.#applyRange();
    });
    seen.observe(this.element);
    this.#stop = [stop, () => size.disconnect(), () => seen.disconnect()];
    void this.#load();
  }

  remove(): void {
    for (const stop of this.#stop) stop();
    this.#plot?.destroy();
  }

  async #load(): Promise<void> {
    const there = PHASES.filter((phase) => this.store.tags.includes(`step_ms/${phase}`));
    if (there.length === 0) return;
    this.#answers = await Promise.all(there.map((phase) => this.loader.series(`step_ms/${phase}`)));
    this.#draw();
  }

  #draw(): void {
    const { store } = this;
    const candidates = store.shown.filter((run) => store.has(run, 'step_ms/forward'));
    const run = candidates.find(({ id }) => id === store.focused?.id) ?? candidates.at(-1);
    const options = candidates.map(({ id, name }) => h('option', { value: id, selected: id === run?.id }, name));
    this.#choice.replaceChildren(...options);
    this.#choice.hidden = candidates.length < 2;
    this.#plot?.destroy();
    this.#plot = null;
    if (!run || !this.element.isConnected) return;
    const lines = this.#answers.flatMap((answers) => {
      const answer = answers.find((one) => one.run === run.id);
      return answer
        ? [{ phase: answer.tag.slice('step_ms/'.length), ...lineOf(run, answer, store.axis, 0, (value) => value) }]
        : [];
    });
    const [first] = lines;
    if (!first) return;
    const length = Math.min(...lines.map(({ x }) => x.length));
    const sums = new Float64Array(length);
    const stacked = lines.map(({ raw }) => Array.from(sums, (_, i) => (sums[i] = (sums[i] as number) + (raw[i] ?? 0))));
    const colors = plotColors();
    this.#plot = new uPlot(
      {
        ...this.#size,
        padding: [8, 20, 0, 0],
        legend: { show: false },
        cursor: { ...cursor(store), points: { show: false } },
        scales: {
          x: { time: store.axis === 'wall', auto: false },
          y: { range: (_, __, max) => [0, (max || 1) * 1.05] },
        },
        axes: axes(colors, (value) => `${show(value)} ms`, store),
        series: [
          {},
          ...lines
            .map(({ phase }) => {
              const color = phaseColor(phase, store.isDark);
              return { label: phase, stroke: color, fill: color, width: 1, points: { show: length < 3 } };
            })
            .reverse(),
        ],
        hooks: {
          ...zoomHooks(store),
          setCursor: [(plot) => this.#point(plot, first.steps, lines)],
        },
      },
      // The highest first: each lower one is painted over it.
      [first.x.slice(0, length), ...stacked.reverse()] as uPlot.AlignedData,
      this.#body,
    );
    this.#plot.over.append(this.#tip);
    this.#applyRange();
  }

  #point(
    plot: uPlot,
    steps: readonly number[],
    lines: readonly { phase: string; raw: readonly (number | null)[] }[],
  ): void {
    const { idx, left } = plot.cursor;
    const isOut = idx === null || idx === undefined || left === undefined || left < 0;
    this.#tip.hidden = isOut;
    if (isOut) return;
    fill(
      this.#tip,
      h('div', { class: 'tip-place' }, `step ${steps[idx]?.toLocaleString('en-US')}`),
      ...lines.map(({ phase, raw }) =>
        h(
          'div',
          { class: 'tip-row' },
          h('i', { style: { background: phaseColor(phase, this.store.isDark) } }),
          h('span', {}, phase),
          h('b', {}, `${show(raw[idx])} ms`),
        ),
      ),
    );
    const width = plot.over.clientWidth;
    const isRight = left > width / 2;
    this.#tip.style.left = isRight ? '' : `${left + 14}px`;
    this.#tip.style.right = isRight ? `${width - left + 14}px` : '';
    this.#tip.style.top = '8px';
  }

  #applyRange(): void {
    const x = this.#plot?.data[0];
    if (!this.#plot || !x || x.length === 0) return;
    const [min, max] = [x[0] as number, x.at(-1) as number];
    this.#plot.setScale('x', this.store.range ?? (min === max ? { min: min - 1, max: max + 1 } : { min, max }));
  }

  get #size(): { width: number; height: number } {
    return { width: Math.max(120, this.#body.clientWidth), height: HEIGHT };
  }
}
