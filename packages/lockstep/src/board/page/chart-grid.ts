/** Plots side by side that come and go with the tags there are. */
import { h } from './dom.js';
import { type ChartOptions, LineChart } from './line-chart.js';
import type { Loader } from './loader.js';
import type { Store } from './store.js';

export class ChartGrid {
  readonly element = h('div', { class: 'grid' });
  readonly #charts = new Map<string, LineChart>();

  constructor(
    private readonly store: Store,
    private readonly loader: Loader,
  ) {}

  /** @param wanted in their order; a chart that stays is not drawn anew */
  show(wanted: readonly ChartOptions[]): void {
    const keys = new Set(wanted.map(keyOf));
    for (const [key, chart] of this.#charts) {
      if (keys.has(key)) continue;
      chart.remove();
      this.#charts.delete(key);
    }
    for (const [at, options] of wanted.entries()) {
      const key = keyOf(options);
      let chart = this.#charts.get(key);
      if (chart === undefined) {
        chart = new LineChart(this.store, this.loader, options);
        this.#charts.set(key, chart);
      } else chart.update(options);
      const here = this.element.children[at];
      if (here !== chart.element) this.element.insertBefore(chart.element, here ?? null);
    }
  }

  remove(): void {
    for (const chart of this.#charts.values()) chart.remove();
    this.#charts.clear();
    this.element.remove();
  }
}

const keyOf = ({ title, tag }: ChartOptions): string => `${title}\n${tag}`;
