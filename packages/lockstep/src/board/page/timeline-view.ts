/** The timeline of one step: who did what when, and who kept the others waiting. Drawn from timeline-N.json, on a canvas. */
import type { RunEntry } from '../protocol.js';
import { inkOn, phaseColor } from './colors.js';
import { fill, h, show } from './dom.js';
import { phaseBars, phaseLegend } from './phase-bars.js';
import { plotColors } from './plot-style.js';
import type { Store } from './store.js';
import { readTrace, replicaTimes, type Span, type Trace } from './trace.js';
import { command, empty, type View } from './view.js';

const LANE = 18;
const GAP = 10;
const NAMES = 132;
const RULER = 22;
/** Behind by more than this is said. */
const STRAGGLER = 0.1;

export class TimelineView implements View {
  readonly element = h('div', { class: 'view' });
  readonly #run = h('select', { 'aria-label': 'Run', onchange: () => this.#choose() });
  readonly #step = h('select', { 'aria-label': 'Step', onchange: () => void this.#load() });
  readonly #replicas = h('div', { class: 'card' });
  readonly #canvas = h('canvas', {
    class: 'timeline',
    tabindex: '0',
    role: 'img',
    'aria-label': 'Timeline; + and - zoom, arrows move',
  });
  readonly #tip = h('div', { class: 'tip', hidden: true });
  readonly #content = h('div');
  readonly #stop: (() => void)[];
  #candidates: readonly RunEntry[] = [];
  #trace: Trace | null = null;
  #loaded = '';
  #from = 0;
  #to = 1;

  constructor(private readonly store: Store) {
    this.element.append(h('div', { class: 'view-bar' }, this.#run, this.#step), this.#content);
    const size = new ResizeObserver(() => this.#draw());
    size.observe(this.#canvas);
    const stop = store.listen((change) => {
      if (change === 'theme') this.#show();
      else if (change !== 'range' && change !== 'hover') this.#update();
    });
    this.#stop = [stop, () => size.disconnect()];
    this.#listen();
    this.#update();
  }

  remove(): void {
    for (const stop of this.#stop) stop();
  }

  #update(): void {
    this.#candidates = this.store.shown.filter(({ timelines }) => timelines.length > 0);
    const bar = this.element.querySelector('.view-bar') as HTMLElement;
    bar.hidden = this.#candidates.length === 0;
    if (this.#candidates.length === 0) {
      this.#trace = null;
      this.#loaded = '';
      fill(
        this.#content,
        empty(
          'No timeline yet',
          'A run writes what each replica did in a step as a file timeline-….json if it is asked to:',
          command('lockstep cifar10 … --profile_steps=20,22'),
        ),
      );
      return;
    }
    const chosen = Number(this.#run.value || this.store.focused?.id);
    const run = this.#candidates.find(({ id }) => id === chosen) ?? (this.#candidates.at(-1) as RunEntry);
    fill(
      this.#run,
      ...this.#candidates.map(({ id, name }) => h('option', { value: id, selected: id === run.id }, name)),
    );
    this.#choose();
  }

  #choose(): void {
    const run = this.#candidates.find(({ id }) => id === Number(this.#run.value));
    if (!run) return;
    const before = this.#step.value;
    const step =
      run.timelines.includes(before) && this.#loaded.startsWith(`${run.id}:`) ? before : run.timelines.at(-1);
    fill(
      this.#step,
      ...run.timelines.map((one) =>
        h(
          'option',
          { value: one, selected: one === step },
          `${one.includes('-') ? 'steps' : 'step'} ${one.replace('-', '–')}`,
        ),
      ),
    );
    void this.#load();
  }

  async #load(): Promise<void> {
    const key = `${this.#run.value}:${this.#step.value}`;
    if (key === this.#loaded) return;
    this.#loaded = key;
    try {
      const trace = readTrace(await this.store.source.timeline(Number(this.#run.value), this.#step.value));
      if (key !== this.#loaded) return;
      this.#trace = trace;
    } catch {
      this.#trace = null;
    }
    [this.#from, this.#to] = [0, this.#trace?.ms ?? 1];
    this.#show();
  }

  #show(): void {
    const trace = this.#trace;
    if (trace === null) {
      if (this.#candidates.length > 0)
        fill(
          this.#content,
          empty('This timeline cannot be read', 'It may be half written; another step may be whole.'),
        );
      return;
    }
    const times = replicaTimes(trace);
    const slowest = [...times].sort((a, b) => b.behind - a.behind)[0];
    const isLate = slowest !== undefined && times.length > 1 && slowest.behind > STRAGGLER;
    const { isDark } = this.store;
    fill(
      this.#replicas,
      h('header', {}, h('h3', {}, 'By replica'), h('span', { class: 'hint' }, 'ms of one step')),
      phaseLegend(isDark),
      phaseBars(
        times.map(({ name, times: phases, behind }) => ({
          name,
          times: phases,
          isMarked: times.length > 1 && behind > STRAGGLER,
          ...(times.length > 1 &&
            behind > STRAGGLER && { note: `computes ${(100 * behind).toFixed(0)} % longer than the median` }),
        })),
        isDark,
      ),
      times.length > 1 &&
        h(
          'p',
          { class: 'section-note' },
          isLate
            ? `${slowest.name} keeps the others waiting: what they wait is in their “reduce”.`
            : 'No straggler: all replicas compute within a tenth of the median.',
        ),
    );
    fill(
      this.#content,
      this.#replicas,
      h(
        'section',
        { class: 'card' },
        h(
          'header',
          {},
          h('h3', {}, 'Timeline'),
          h('span', { class: 'hint' }, 'drag to move, ctrl + wheel to zoom, two clicks for all'),
        ),
        h('div', { class: 'timeline-frame' }, this.#canvas, this.#tip),
      ),
    );
    this.#draw();
  }

  #draw(): void {
    const trace = this.#trace;
    const width = this.#canvas.clientWidth;
    if (trace === null || width === 0) return;
    const height = trace.tracks.reduce((sum, { depth }) => sum + depth * LANE + GAP, RULER);
    const ratio = devicePixelRatio;
    this.#canvas.style.height = `${height}px`;
    this.#canvas.width = Math.round(width * ratio);
    this.#canvas.height = Math.round(height * ratio);
    const context = this.#canvas.getContext('2d') as CanvasRenderingContext2D;
    context.scale(ratio, ratio);
    context.font = '11px system-ui, sans-serif';
    context.textBaseline = 'middle';
    const colors = plotColors();
    this.#drawRuler(context, width, height, colors.text, colors.grid);
    let top = RULER;
    for (const { name, spans, depth } of trace.tracks) {
      context.fillStyle = colors.text;
      context.fillText(clipped(context, name, NAMES - 12), 4, top + LANE / 2);
      context.save();
      context.beginPath();
      context.rect(NAMES, top, width - NAMES, depth * LANE);
      context.clip();
      for (const span of spans) this.#drawSpan(context, span, top, width, colors.background);
      context.restore();
      top += depth * LANE + GAP;
    }
  }

  #drawSpan(context: CanvasRenderingContext2D, span: Span, top: number, width: number, paper: string): void {
    const left = this.#place(span.begin, width);
    const right = this.#place(span.begin + span.ms, width);
    if (right < NAMES || left > width) return;
    const y = top + span.depth * LANE;
    const color = phaseColor(span.phase, this.store.isDark);
    const part = span.name === span.phase ? 1 : 0.62;
    context.globalAlpha = part;
    context.fillStyle = color;
    context.fillRect(left, y, Math.max(0.5, right - left - 0.5), LANE - 2);
    context.globalAlpha = 1;
    if (right - left < 28) return;
    context.fillStyle = inkOn(color, paper, part);
    const from = Math.max(left, NAMES);
    context.fillText(clipped(context, span.name, Math.min(right, width) - from - 8), from + 4, y + LANE / 2 - 1);
  }

  #drawRuler(context: CanvasRenderingContext2D, width: number, height: number, text: string, grid: string): void {
    const span = this.#to - this.#from;
    const raw = span / Math.max(2, (width - NAMES) / 90);
    const power = 10 ** Math.floor(Math.log10(raw));
    const tick = ([1, 2, 5, 10].find((one) => one * power >= raw) as number) * power;
    for (let at = Math.ceil(this.#from / tick) * tick; at <= this.#to; at += tick) {
      const x = this.#place(at, width);
      context.fillStyle = grid;
      context.fillRect(x, RULER - 4, 1, height);
      context.fillStyle = text;
      context.fillText(`${Number(at.toPrecision(6))} ms`, x + 3, 9);
    }
  }

  #place(ms: number, width: number): number {
    return NAMES + ((ms - this.#from) / (this.#to - this.#from)) * (width - NAMES);
  }

  #listen(): void {
    const canvas = this.#canvas;
    const at = (event: MouseEvent) =>
      this.#from + ((event.offsetX - NAMES) / (canvas.clientWidth - NAMES)) * (this.#to - this.#from);
    canvas.addEventListener(
      'wheel',
      (event) => {
        if (!(event.ctrlKey || event.altKey || event.metaKey)) return;
        event.preventDefault();
        this.#zoom(Math.exp(event.deltaY / 500), at(event));
      },
      { passive: false },
    );
    canvas.addEventListener('pointerdown', (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener('pointermove', (event) => {
      if (event.buttons === 1) this.#move((-event.movementX / (canvas.clientWidth - NAMES)) * (this.#to - this.#from));
      this.#point(event, at(event));
    });
    canvas.addEventListener('pointerleave', () => {
      this.#tip.hidden = true;
    });
    canvas.addEventListener('dblclick', () => this.#zoom(Number.POSITIVE_INFINITY, 0));
    canvas.addEventListener('keydown', (event) => {
      const { key } = event;
      const span = this.#to - this.#from;
      if (key === '+' || key === '=') this.#zoom(0.7, (this.#from + this.#to) / 2);
      else if (key === '-') this.#zoom(1 / 0.7, (this.#from + this.#to) / 2);
      else if (key === '0') this.#zoom(Number.POSITIVE_INFINITY, 0);
      else if (key === 'ArrowLeft') this.#move(-span / 8);
      else if (key === 'ArrowRight') this.#move(span / 8);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  #zoom(factor: number, at: number): void {
    const { ms } = this.#trace ?? { ms: 1 };
    const span = Math.min(ms, Math.max(ms / 10_000, (this.#to - this.#from) * factor));
    const part = (at - this.#from) / (this.#to - this.#from);
    this.#from = Math.min(Math.max(0, at - part * span), ms - span);
    this.#to = this.#from + span;
    requestAnimationFrame(() => this.#draw());
  }

  #move(by: number): void {
    const { ms } = this.#trace ?? { ms: 1 };
    const span = this.#to - this.#from;
    this.#from = Math.min(Math.max(0, this.#from + by), ms - span);
    this.#to = this.#from + span;
    requestAnimationFrame(() => this.#draw());
  }

  #point(event: MouseEvent, ms: number): void {
    let top = RULER;
    const found = this.#trace?.tracks.flatMap(({ name, spans, depth }) => {
      const lane = Math.floor((event.offsetY - top) / LANE);
      top += depth * LANE + GAP;
      const span = spans.find((one) => one.depth === lane && ms >= one.begin && ms <= one.begin + one.ms);
      return span ? [{ name, span }] : [];
    })[0];
    this.#tip.hidden = !found || event.offsetX < NAMES;
    if (!found) return;
    const { name, span } = found;
    fill(
      this.#tip,
      h('div', { class: 'tip-place' }, name),
      h(
        'div',
        { class: 'tip-row' },
        h('i', { style: { background: phaseColor(span.phase, this.store.isDark) } }),
        h('span', {}, span.name),
        h('b', {}, `${show(span.ms)} ms`),
      ),
      h('div', { class: 'tip-place' }, `from ${show(span.begin)} to ${show(span.begin + span.ms)} ms`),
    );
    const isRight = event.offsetX > this.#canvas.clientWidth / 2;
    this.#tip.style.left = isRight ? '' : `${event.offsetX + 14}px`;
    this.#tip.style.right = isRight ? `${this.#canvas.clientWidth - event.offsetX + 14}px` : '';
    this.#tip.style.top = `${event.offsetY + 14}px`;
  }
}

function clipped(context: CanvasRenderingContext2D, text: string, width: number): string {
  if (context.measureText(text).width <= width) return text;
  let short = text;
  while (short.length > 0 && context.measureText(`${short}…`).width > width) short = short.slice(0, -1);
  return short === '' ? '' : `${short}…`;
}
