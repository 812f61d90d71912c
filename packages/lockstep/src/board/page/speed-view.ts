/**
 * How fast runs are, and where a step's time goes: throughput, efficiency against the run on one replica, the phases of a step over the run
 * and beside other runs, and whatever is recorded of packs and of the network.
 */
import { ChartGrid } from './chart-grid.js';
import { PHASES } from './colors.js';
import { fill, h, percent, show } from './dom.js';
import type { Facts } from './facts.js';
import type { ChartOptions } from './line-chart.js';
import type { Loader } from './loader.js';
import { phaseBars, phaseLegend } from './phase-bars.js';
import { PhaseChart } from './phase-chart.js';
import type { Store } from './store.js';
import { empty, type View } from './view.js';

const RATE = 'images_per_second';
const KNOWN: readonly ChartOptions[] = [
  { title: 'Step time', tag: 'step_ms', hint: 'ms, on the chief' },
  { title: 'Steps per second', tag: 'global_step/sec' },
];
/** Of packs, of the network, and of other tools. */
const PATTERN =
  /pack|all_?reduce|bandwidth|gb.?per.?s|bus|input_wait|loss_scale|(examples|images|steps).?per.?sec|throughput|\bfps\b/i;

export class SpeedView implements View {
  readonly element = h('div', { class: 'view' });
  readonly #rates: ChartGrid;
  readonly #others: ChartGrid;
  readonly #note = h('p', { class: 'section-note' });
  readonly #phases: PhaseChart;
  readonly #bars = h('div', { class: 'card' });
  readonly #stop: () => void;
  #base: { readonly name: string; readonly rate: number } | null = null;

  constructor(
    private readonly store: Store,
    private readonly loader: Loader,
    private readonly facts: Facts,
  ) {
    this.#rates = new ChartGrid(store, loader);
    this.#others = new ChartGrid(store, loader);
    this.#phases = new PhaseChart(store, loader);
    this.element.append(
      h('h2', {}, 'Throughput'),
      this.#rates.element,
      this.#note,
      h('h2', {}, 'Where a step’s time goes'),
      h('div', { class: 'grid two' }, this.#phases.element, this.#bars),
      h('h2', { class: 'others' }, 'Also recorded'),
      this.#others.element,
    );
    this.#stop = store.listen((change) => {
      if (change !== 'range') void this.#update();
    });
    void this.#update();
  }

  remove(): void {
    this.#stop();
    this.#rates.remove();
    this.#others.remove();
    this.#phases.remove();
  }

  async #update(): Promise<void> {
    const { store, facts } = this;
    const { tags, shown } = store;
    const replicas = new Map(shown.map((run) => [run.id, facts.replicasOf(run)]));
    const hasRate = tags.includes(RATE);
    const single = shown.filter((run) => replicas.get(run.id) === 1 && store.has(run, RATE));
    const means = await this.#means([RATE, 'step_ms', ...PHASES.map((phase) => `step_ms/${phase}`)]);
    const best = single
      .map((run) => ({ name: run.name, rate: means.get(run.id)?.get(RATE) ?? 0 }))
      .sort((a, b) => b.rate - a.rate)[0];
    this.#base = best && best.rate > 0 ? best : null;
    const base = this.#base;
    this.#rates.show([
      ...(hasRate ? [{ title: 'Images per second', tag: RATE, hint: 'all replicas together' }] : []),
      ...(hasRate && [...replicas.values()].some((count) => (count ?? 1) > 1)
        ? [
            {
              title: 'Images per second and replica',
              tag: RATE,
              hint: '',
              transform: (id: number) => {
                const count = replicas.get(id);
                return count ? (value: number) => value / count : null;
              },
            },
          ]
        : []),
      ...(hasRate && base
        ? [
            {
              title: 'Scaling efficiency',
              tag: RATE,
              hint: `against ${base.name}`,
              format: (value: number) => percent(value),
              transform: (id: number) => {
                const count = replicas.get(id);
                return count ? (value: number) => value / count / base.rate : null;
              },
            },
          ]
        : []),
      ...KNOWN.filter(({ tag }) => tags.includes(tag)),
    ]);
    this.#say(hasRate, [...replicas.values()]);
    const rows = shown.flatMap((run) => {
      const mean = means.get(run.id);
      const times = PHASES.flatMap((phase) => {
        const ms = mean?.get(`step_ms/${phase}`);
        return ms === undefined ? [] : [[phase, ms] as const];
      });
      if (times.length === 0) return [];
      const rest = (mean?.get('step_ms') ?? 0) - times.reduce((sum, [, ms]) => sum + ms, 0);
      return [
        {
          name: run.name,
          swatch: store.styleOf(run).color,
          times: rest > 0.005 ? [...times, ['other', rest] as const] : times,
        },
      ];
    });
    const hasPhases = rows.length > 0;
    this.#phases.element.hidden = this.#bars.hidden = !hasPhases;
    fill(
      this.#bars,
      h('header', {}, h('h3', {}, 'Runs beside each other'), h('span', { class: 'hint' }, 'mean of the last half, ms')),
      phaseLegend(store.isDark),
      phaseBars(rows, store.isDark),
    );
    const others = tags.filter((tag) => PATTERN.test(tag) && tag !== RATE);
    this.#others.show(others.map((tag) => ({ title: tag, tag })));
    (this.element.querySelector('.others') as HTMLElement).hidden = others.length === 0;
    this.element.querySelector('.empty-state')?.remove();
    const headings = [...this.element.querySelectorAll('h2')] as HTMLElement[];
    const isEmpty = !hasRate && !hasPhases && others.length === 0;
    for (const one of headings.slice(0, 2)) one.hidden = isEmpty;
    if (isEmpty)
      this.element.append(
        empty(
          'No speeds recorded',
          'Runs of Lockstep record images per second and the phases of a step with every summary (--save_summary_steps).',
        ),
      );
  }

  #say(hasRate: boolean, replicas: readonly (number | null)[]): void {
    const { length: known } = replicas.filter((count) => count !== null);
    let text = '';
    if (hasRate && this.#base) {
      text = `Efficiency is images per second and replica, against ${show(this.#base.rate)} of ${this.#base.name}, which has one replica.`;
    } else if (hasRate && known > 0) {
      text = 'For the scaling efficiency, choose a run on one replica, too: --num_cpus=1 --distribution_strategy=off.';
    }
    this.#note.textContent = text;
    this.#note.hidden = text === '';
  }

  /** Of the last half of each run's points. */
  async #means(tags: readonly string[]): Promise<Map<number, Map<string, number>>> {
    const means = new Map<number, Map<string, number>>();
    const there = tags.filter((tag) => this.store.tags.includes(tag));
    for (const answers of await Promise.all(there.map((tag) => this.loader.series(tag)))) {
      for (const { run, tag, values } of answers) {
        const last = values.slice(values.length >> 1).filter((value) => value !== null);
        if (last.length === 0) continue;
        const mean = last.reduce((sum, value) => sum + value, 0) / last.length;
        means.set(run, (means.get(run) ?? new Map<string, number>()).set(tag, mean));
      }
    }
    return means;
  }
}
