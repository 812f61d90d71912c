/** Every series there is, by the first part of its name, with a filter; and the newest picture of every tag. */
import { ChartGrid } from './chart-grid.js';
import { fill, h } from './dom.js';
import type { Facts } from './facts.js';
import type { Loader } from './loader.js';
import type { Store } from './store.js';
import { empty, type View } from './view.js';

export class AllView implements View {
  readonly element = h('div', { class: 'view' });
  readonly #groups = new Map<string, { element: HTMLDetailsElement; grid: ChartGrid; count: HTMLElement }>();
  readonly #list = h('div');
  readonly #pictures = h('div');
  #drawn = '';
  readonly #filter: HTMLInputElement;
  readonly #stop: () => void;

  constructor(
    private readonly store: Store,
    private readonly loader: Loader,
    private readonly facts: Facts,
  ) {
    this.#filter = h('input', {
      type: 'search',
      placeholder: 'Filter series (regular expression)',
      'aria-label': 'Filter series',
      oninput: () => this.#update(),
    });
    this.element.append(h('div', { class: 'view-bar' }, this.#filter), this.#list, this.#pictures);
    this.#stop = store.listen((change) => {
      if (change === 'view' || change === 'data') this.#update();
    });
    this.#update();
  }

  remove(): void {
    this.#stop();
    for (const { grid } of this.#groups.values()) grid.remove();
  }

  #update(): void {
    const groups = new Map<string, string[]>();
    for (const tag of this.store.tags.filter(this.#pattern)) {
      const slash = tag.indexOf('/');
      const name = slash < 0 ? '' : tag.slice(0, slash);
      groups.set(name, [...(groups.get(name) ?? []), tag]);
    }
    for (const [name, { element, grid }] of this.#groups) {
      if (groups.has(name)) continue;
      grid.remove();
      element.remove();
      this.#groups.delete(name);
    }
    for (const [name, tags] of groups) {
      const { grid, count } = this.#groups.get(name) ?? this.#add(name);
      count.textContent = String(tags.length);
      grid.show(tags.map((tag) => ({ title: tag, tag })));
    }
    this.#showPictures();
    this.#list.querySelector('.empty-state')?.remove();
    if (groups.size === 0)
      this.#list.append(
        empty('No series', this.#filter.value === '' ? 'Choose runs at the left.' : 'None has a name like that.'),
      );
  }

  /** Drawn anew where there is a new one. */
  #showPictures(): void {
    const { shown, source } = this.store;
    const found = shown.flatMap((run) =>
      Object.entries(this.facts.of(run)?.images ?? {})
        .filter(([tag]) => this.#pattern(tag))
        .map(([tag, { step }]) => ({ run, tag, step, url: source.imageUrl(run.id, tag, step) })),
    );
    const state = JSON.stringify(found.map(({ run, tag, step }) => [run.name, tag, step]));
    if (state === this.#drawn) return;
    this.#drawn = state;
    const figures = found.map(({ run, tag, step, url }) =>
      h(
        'figure',
        { class: 'card picture' },
        url !== null && h('img', { src: url, alt: `${tag} of ${run.name}`, loading: 'lazy' }),
        h('figcaption', {}, tag, h('small', {}, `${run.name}, step ${step.toLocaleString('en-US')}`)),
      ),
    );
    fill(
      this.#pictures,
      found.length > 0 &&
        h(
          'details',
          { class: 'group', open: true },
          h('summary', {}, 'pictures ', h('span', { class: 'count' }, found.length)),
          h('div', { class: 'pictures' }, ...figures),
        ),
    );
  }

  #add(name: string): { element: HTMLDetailsElement; grid: ChartGrid; count: HTMLElement } {
    const grid = new ChartGrid(this.store, this.loader);
    const count = h('span', { class: 'count' });
    const element = h(
      'details',
      { class: 'group', open: true },
      h('summary', {}, name === '' ? 'general' : name, ' ', count),
      grid.element,
    );
    const group = { element, grid, count };
    this.#groups.set(name, group);
    this.#list.append(element);
    return group;
  }

  get #pattern(): (tag: string) => boolean {
    const { value } = this.#filter;
    try {
      const pattern = new RegExp(value, 'i');
      this.#filter.removeAttribute('aria-invalid');
      return (tag) => pattern.test(tag);
    } catch {
      this.#filter.setAttribute('aria-invalid', 'true');
      return (tag) => tag.includes(value);
    }
  }
}
