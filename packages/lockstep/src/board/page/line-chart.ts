/** One plot of one tag: a line for each run, the band that its points stand for, and a box with the values under the cursor. */
import uPlot from 'uplot';
import type { SeriesAnswer } from '../protocol.js';
import { fill, h, show } from './dom.js';
import { extent, type Line, lineOf, nearest } from './lines.js';
import type { Loader } from './loader.js';
import { axes, cursor, type PlotColors, plotColors, zoomHooks } from './plot-style.js';
import type { Change, Store } from './store.js';

/** Rows of the box under the cursor. */
const MAX_ROWS = 10;
const HEIGHT = 210;
const LARGE = 420;
/** A zoom that is over is followed by finer figures. */
const SETTLE_MS = 180;

export interface ChartOptions {
  readonly title: string;
  readonly tag: string;
  /** What it is, in a few words; the title says it where there is none. */
  readonly hint?: string;
  readonly format?: (value: number) => string;
  /** Of a run's values; null: the run has none of these. */
  readonly transform?: (run: number) => ((value: number) => number) | null;
  readonly isSmoothed?: boolean;
}

const hintOf = ({ title, tag, hint }: ChartOptions): string => hint ?? (title === tag ? '' : tag);

export class LineChart {
  readonly element: HTMLElement;
  readonly #hint = h('span', { class: 'hint' });
  readonly #body = h('div', { class: 'plot' });
  readonly #tip = h('div', { class: 'tip', hidden: true });
  readonly #note = h('p', { class: 'plot-note', hidden: true });
  readonly #stop: (() => void)[] = [];
  #plot: uPlot | null = null;
  #answers: readonly SeriesAnswer[] = [];
  #lines: readonly Line[] = [];
  #shape = '';
  #colors: PlotColors | null = null;
  #isSeen = false;
  #isStale = true;
  #isLarge = false;
  #settling: number | null = null;

  constructor(
    private readonly store: Store,
    private readonly loader: Loader,
    private options: ChartOptions,
  ) {
    const { title, tag } = options;
    this.#hint.textContent = hintOf(options);
    const expand = h(
      'button',
      {
        type: 'button',
        class: 'icon',
        title: 'Larger',
        'aria-label': `${title}: larger`,
        onclick: () => this.#toggleSize(),
      },
      '⤢',
    );
    this.element = h(
      'section',
      { class: 'card chart', tabindex: '0', 'aria-label': title, dataset: { tag } },
      h('header', {}, h('h3', {}, title), this.#hint, expand),
      this.#body,
      this.#note,
    );
    this.element.addEventListener('keydown', (event) => this.#key(event));
    const seen = new IntersectionObserver(
      ([entry]) => {
        this.#isSeen = entry?.isIntersecting ?? false;
        if (this.#isSeen && this.#isStale) void this.#load();
      },
      { rootMargin: '200px' },
    );
    seen.observe(this.element);
    const size = new ResizeObserver(() => this.#fit());
    size.observe(this.#body);
    this.#stop.push(
      store.listen((change) => this.#on(change)),
      () => seen.disconnect(),
      () => size.disconnect(),
    );
  }

  /** The same plot with other values. */
  update(options: ChartOptions): void {
    const isOther = options.transform !== undefined || options.hint !== this.options.hint;
    this.options = options;
    if (!isOther) return;
    this.#hint.textContent = hintOf(options);
    this.#draw();
  }

  remove(): void {
    for (const stop of this.#stop) stop();
    if (this.#settling !== null) clearTimeout(this.#settling);
    this.#plot?.destroy();
    this.#plot = null;
    this.element.remove();
  }

  #on(change: Change): void {
    if (change === 'range') {
      if (!this.#isSeen) {
        this.#isStale = true;
        return;
      }
      this.#applyRange();
      if (this.#settling !== null) clearTimeout(this.#settling);
      this.#settling = window.setTimeout(() => this.#load(), SETTLE_MS);
      return;
    }
    if (change === 'hover') {
      const at = this.#lines.findIndex(({ run }) => run.id === this.store.hovered);
      if (this.#isSeen) this.#plot?.setSeries(at < 0 ? (null as unknown as number) : at + 1, { focus: true });
      return;
    }
    if (change === 'theme') {
      this.#shape = '';
      this.#draw();
      return;
    }
    if (change === 'view') this.#draw();
    const isMine = this.store.shown.some(({ id }) => this.store.changed.has(id));
    if (change === 'view' || isMine) void this.#load();
  }

  async #load(): Promise<void> {
    this.#isStale = true;
    if (!this.#isSeen) return;
    this.#isStale = false;
    this.#answers = await this.loader.series(this.options.tag);
    this.#draw();
  }

  #draw(): void {
    if (!this.element.isConnected) return;
    const { store, options } = this;
    const { shown, axis, smoothing, isLog } = store;
    const strength = options.isSmoothed === false ? 0 : smoothing;
    this.#lines = shown.flatMap((run) => {
      const answer = this.#answers.find((one) => one.run === run.id);
      const transform = options.transform ? options.transform(run.id) : (value: number) => value;
      return answer && transform ? [lineOf(run, answer, axis, strength, transform)] : [];
    });
    const isEmpty = this.#lines.length === 0;
    this.element.classList.toggle('empty', isEmpty);
    this.#say(isEmpty && this.#answers.length === 0 && !this.#isStale ? 'None of the chosen runs has it.' : null);
    const shape = JSON.stringify([axis, isLog, store.isDark, this.#lines.map(({ run }) => run.name)]);
    const positive = (value: number | null) => (isLog && value !== null && value <= 0 ? null : value);
    const tables = this.#lines.map(({ x, y }) => [[...x], y.map(positive)] as uPlot.AlignedData);
    const data = isEmpty ? ([[], []] as unknown as uPlot.AlignedData) : uPlot.join(tables);
    if (this.#plot === null || shape !== this.#shape) {
      this.#shape = shape;
      this.#plot?.destroy();
      this.#make(data);
    } else this.#plot.setData(data, false);
    this.#applyRange();
  }

  #say(text: string | null): void {
    this.#note.hidden = text === null;
    this.#note.textContent = text ?? '';
  }

  #make(data: uPlot.AlignedData): void {
    const { store, options } = this;
    this.#colors = plotColors();
    const format = options.format ?? show;
    const styles = this.#lines.map(({ run }) => store.styleOf(run));
    const zoom = zoomHooks(store);
    this.#plot = new uPlot(
      {
        ...this.#size,
        padding: [8, 20, 0, 0],
        legend: { show: false },
        focus: { alpha: 0.25 },
        cursor: cursor(store),
        scales: {
          x: { time: store.axis === 'wall', auto: false },
          y: { distr: store.isLog ? 3 : 1, range: (plot) => this.#heights(plot) },
        },
        axes: axes(this.#colors, format, store),
        series: [
          {},
          ...styles.map(({ color, dash }, i) => ({
            label: this.#lines[i]?.run.name ?? '',
            stroke: color,
            width: 1.75,
            dash: [...dash],
            spanGaps: true,
            points: { show: (this.#lines[i]?.x.length ?? 0) < 12 },
          })),
        ],
        hooks: {
          ...zoom,
          drawAxes: [(plot) => this.#drawBands(plot)],
          setCursor: [(plot) => this.#point(plot)],
        },
      },
      data,
      this.#body,
    );
    this.#plot.over.append(this.#tip);
  }

  get #size(): { width: number; height: number } {
    return { width: Math.max(120, this.#body.clientWidth), height: this.#isLarge ? LARGE : HEIGHT };
  }

  #fit(): void {
    const size = this.#size;
    if (this.#plot && (this.#plot.width !== size.width || this.#plot.height !== size.height)) this.#plot.setSize(size);
  }

  #toggleSize(): void {
    this.#isLarge = !this.#isLarge;
    this.element.classList.toggle('large', this.#isLarge);
    this.#fit();
  }

  /** The range that all plots show, or all there is. */
  #applyRange(): void {
    if (this.#plot === null || this.#lines.length === 0) return;
    this.#plot.setScale('x', this.store.range ?? this.#widest);
  }

  get #widest(): { min: number; max: number } {
    let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (const { x } of this.#lines) {
      min = Math.min(min, x[0] ?? min);
      max = Math.max(max, x.at(-1) ?? max);
    }
    if (!(min <= max)) return { min: 0, max: 1 };
    return min === max ? { min: min - 1, max: max + 1 } : { min, max };
  }

  #heights(plot: uPlot): [number, number] {
    const { min, max } = plot.scales.x as { min?: number; max?: number };
    const { isLog } = this.store;
    const found = extent(this.#lines, min ?? Number.NEGATIVE_INFINITY, max ?? Number.POSITIVE_INFINITY, isLog);
    if (found === null) return isLog ? [0.1, 1] : [0, 1];
    const [low, high] = found;
    if (isLog) return [low / 1.15, high * 1.15];
    // What differs in the last bits alone is flat.
    const isFlat = high - low < 1e-9 * Math.abs(high);
    const room = (isFlat ? Math.abs(high) || 1 : high - low) * 0.06;
    return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
  }

  /** What a point stands for, from its smallest to its largest value; and under a smoothed line the line as it was. */
  #drawBands(plot: uPlot): void {
    const { ctx } = plot;
    const { store } = this;
    ctx.save();
    ctx.beginPath();
    ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
    ctx.clip();
    const floor = plot.scales.y?.min ?? 0;
    const y = (value: number) => plot.valToPos(store.isLog ? Math.max(value, floor) : value, 'y', true);
    for (const { run, x, raw, low, high, y: drawn } of this.#lines) {
      ctx.fillStyle = ctx.strokeStyle = store.styleOf(run).color;
      if (low !== raw) {
        ctx.globalAlpha = 0.13;
        ctx.beginPath();
        for (let i = 0; i < x.length; i++) {
          const value = high[i];
          if (value !== null && value !== undefined) ctx.lineTo(plot.valToPos(x[i] as number, 'x', true), y(value));
        }
        for (let i = x.length - 1; i >= 0; i--) {
          const value = low[i];
          if (value !== null && value !== undefined) ctx.lineTo(plot.valToPos(x[i] as number, 'x', true), y(value));
        }
        ctx.fill();
      }
      if (drawn !== raw) {
        ctx.globalAlpha = 0.28;
        ctx.lineWidth = devicePixelRatio;
        ctx.beginPath();
        for (let i = 0; i < x.length; i++) {
          const value = raw[i];
          if (value !== null && value !== undefined) ctx.lineTo(plot.valToPos(x[i] as number, 'x', true), y(value));
        }
        ctx.stroke();
      }
    }
    ctx.restore();
  }

  /** The box beside the cursor, here and in every plot that follows. */
  #point(plot: uPlot): void {
    const { left, top } = plot.cursor;
    const isOut = left === undefined || left < 0 || this.#lines.length === 0;
    this.#tip.hidden = isOut;
    if (isOut) return;
    const { store, options } = this;
    const format = options.format ?? show;
    const at = plot.posToVal(left, 'x');
    const rows = this.#lines.flatMap(({ run, x, y, steps }) => {
      const place = nearest(x, at);
      const value = y[place];
      return place < 0 || value === null || value === undefined ? [] : [{ run, value, step: steps[place] as number }];
    });
    rows.sort((a, b) => b.value - a.value);
    const steps = new Set(rows.map(({ step }) => step));
    const place =
      steps.size === 1
        ? `step ${[...steps][0]?.toLocaleString('en-US')}`
        : `near ${store.axis === 'step' ? `step ${Math.round(at).toLocaleString('en-US')}` : store.axis === 'relative' ? `${show(at)} h` : new Date(at * 1000).toLocaleString()}`;
    const more = rows.length - MAX_ROWS;
    // Where the cursor is not, values alone: the plot itself is to be seen, too.
    this.#tip.classList.toggle('brief', !plot.over.matches(':hover'));
    fill(
      this.#tip,
      h('div', { class: 'tip-place' }, place),
      ...rows
        .slice(0, MAX_ROWS)
        .map(({ run, value }) =>
          h(
            'div',
            { class: 'tip-row' },
            h('i', { style: { background: store.styleOf(run).color } }),
            h('span', {}, run.name),
            h('b', {}, format(value)),
          ),
        ),
      more > 0 && h('div', { class: 'tip-place' }, `and ${more} more`),
    );
    const width = plot.over.clientWidth;
    const isRight = left > width / 2;
    this.#tip.style.left = isRight ? '' : `${left + 14}px`;
    this.#tip.style.right = isRight ? `${width - left + 14}px` : '';
    this.#tip.style.top = `${Math.max(0, Math.min(top ?? 0, plot.over.clientHeight - 20) - 10)}px`;
  }

  /** Arrows move the cursor of a plot that has the focus. */
  #key(event: KeyboardEvent): void {
    const plot = this.#plot;
    if (plot === null || event.target !== this.element || event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === 'Enter') this.#toggleSize();
    else if (by !== undefined && !event.shiftKey) {
      const width = plot.over.clientWidth;
      const left = plot.cursor.left !== undefined && plot.cursor.left >= 0 ? plot.cursor.left : width / 2;
      plot.setCursor({ left: Math.max(0, Math.min(width, left + (by * width) / 100)), top: 10 });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
