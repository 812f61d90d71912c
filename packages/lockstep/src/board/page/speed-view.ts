/**
 * How fast runs are, and where a step's time goes: throughput, efficiency against the run on one replica, the phases of a step over the run
 * and beside other runs, and whatever is recorded of packs and of the network.
 */

import type { RunEntry } from '../protocol.js';
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
  { title: 'All-reduce', tag: 'all_reduce/ms', hint: 'ms that a step waits for others and for packs' },
  { title: 'Bus bandwidth of the all-reduce', tag: 'all_reduce/bus_gb_per_s', hint: 'GB/s' },
];
/** In a plot of its own, or in another's. */
const SHOWN: ReadonlySet<string> = new Set([RATE, `${RATE}_per_replica`, ...KNOWN.map(({ tag }) => tag)]);
/** Of packs, of the network, and of other tools. */
const PATTERN =
  /pack|all_?reduce|bandwidth|gb.?per.?s|bus|input_wait|(examples|images|steps).?per.?sec|throughput|\bfps\b/i;

/** A run on one replica, and its images per second. */
interface Base {
  readonly name: string;
  readonly rate: number;
}

export class SpeedView implements View {
  readonly element = h('div', { class: 'view' });
  readonly #rates: ChartGrid;
  readonly #others: ChartGrid;
  readonly #note = h('p', { class: 'section-note' });
  readonly #phases: PhaseChart;
  readonly #bars = h('div', { class: 'card' });
  readonly #stop: () => void;
  #updates = 0;
  #shown = 0;

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
      if (change !== 'range' && change !== 'hover') void this.#update();
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
    const mine = ++this.#updates;
    const { store, facts } = this;
    const { tags, shown } = store;
    const hasRate = tags.includes(RATE);
    const means = await this.#means([RATE, 'step_ms', ...PHASES.map((phase) => `step_ms/${phase}`)]);
    // A later one was faster, and knows more.
    if (mine < this.#shown) return;
    this.#shown = mine;
    const replicas = new Map(shown.map((run) => [run.id, facts.replicasOf(run)]));
    const baseOf = (run: RunEntry) => {
      const rates = shown
        .filter((one) => replicas.get(one.id) === 1 && this.#kindOf(one) === this.#kindOf(run))
        .map((one) => ({ name: one.name, rate: means.get(one.id)?.get(RATE) ?? 0 }));
      return rates.sort((a, b) => b.rate - a.rate).find(({ rate }) => rate > 0) ?? null;
    };
    const bases = new Map(shown.map((run) => [run.id, baseOf(run)]));
    const used = new Set([...bases.values()].flatMap((base) => (base ? [base.name] : [])));
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
      ...(hasRate && used.size > 0
        ? [
            {
              title: 'Scaling efficiency',
              tag: RATE,
              hint: used.size === 1 ? `against ${[...used][0]}` : 'against the run on one replica',
              format: (value: number) => percent(value),
              transform: (id: number) => {
                const [count, base] = [replicas.get(id), bases.get(id)];
                return count && base ? (value: number) => value / count / base.rate : null;
              },
            },
          ]
        : []),
      ...KNOWN.filter(({ tag }) => tags.includes(tag)),
    ]);
    this.#say(hasRate, [...replicas.values()], [...bases.values()]);
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
    const others = tags.filter((tag) => PATTERN.test(tag) && !SHOWN.has(tag));
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

  #say(hasRate: boolean, replicas: readonly (number | null)[], bases: readonly (Base | null)[]): void {
    const found = bases.filter((base) => base !== null);
    const isKnown = replicas.some((count) => count !== null);
    let text = '';
    if (hasRate && found.length > 0) {
      const each = [...new Map(found.map(({ name, rate }) => [name, rate]))].map(
        ([name, rate]) => `${show(rate)} of ${name}`,
      );
      text = `Efficiency is images per second and replica, against ${each.join(', ')}, which ${each.length === 1 ? 'has' : 'have'} one replica.`;
    }
    if (hasRate && isKnown && found.length < bases.length) {
      text += `${text === '' ? '' : ' '}For the efficiency of ${text === '' ? 'these runs' : 'the others'}, draw one of the same model on one replica, too: --num_cpus=1 --distribution_strategy=off.`;
    }
    this.#note.textContent = text;
    this.#note.hidden = text === '';
  }

  /** Runs of another model or in other numbers are not to be compared. */
  #kindOf(run: RunEntry): string {
    const parameters = this.facts.of(run)?.parameters ?? {};
    return JSON.stringify(
      ['model', 'dataset', 'resnet_size', 'resnet_version', 'dtype'].map((name) => parameters[name]),
    );
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
