/** The runs at the left: which are drawn, in which colour, how well they do, and a filter. A thousand of them stay light. */
import type { RunEntry } from '../protocol.js';
import { fill, h, percent, show } from './dom.js';
import type { Store } from './store.js';

/** Rows that are drawn; the filter finds the others. */
const MAX_ROWS = 200;

export class RunList {
  readonly element: HTMLElement;
  readonly filter: HTMLInputElement;
  readonly #rows = h('ul', { class: 'runs', role: 'list' });
  readonly #count = h('p', { class: 'section-note', 'aria-live': 'polite' });

  constructor(private readonly store: Store) {
    this.filter = h('input', {
      type: 'search',
      placeholder: 'Filter runs (regular expression)',
      'aria-label': 'Filter runs',
      oninput: () => store.set({ filter: this.filter.value }),
    });
    const button = (text: string, hint: string, onclick: () => void) =>
      h('button', { type: 'button', title: hint, onclick }, text);
    this.element = h(
      'aside',
      { class: 'side', 'aria-label': 'Runs' },
      this.filter,
      h(
        'div',
        { class: 'side-buttons' },
        button('All', 'Draw all that the filter finds', () => store.show(store.found, true)),
        button('None', 'Draw none of them', () => store.show(store.found, false)),
      ),
      this.#count,
      this.#rows,
    );
    store.listen((change) => {
      if (change !== 'range' && change !== 'hover') this.update();
    });
  }

  update(): void {
    const { store } = this;
    const { found, isFilterValid } = store;
    this.filter.toggleAttribute('aria-invalid', !isFilterValid);
    if (!isFilterValid) {
      this.#count.textContent = 'This is no regular expression.';
      return;
    }
    const shown = new Set(store.shown.map(({ id }) => id));
    const total = store.runs.runs.length;
    const of = found.length === total ? '' : ` of ${total}`;
    const more = found.length > MAX_ROWS ? `; the newest ${MAX_ROWS} are listed` : '';
    this.#count.textContent = `${found.length}${of} run${total === 1 ? '' : 's'}, ${shown.size} drawn${more}${store.runs.isLoading ? '; reading …' : ''}`;
    const active = document.activeElement?.closest('li')?.dataset.run;
    fill(this.#rows, ...found.slice(0, MAX_ROWS).map((run) => this.#row(run, shown.has(run.id))));
    // Drawn anew under somebody's fingers.
    if (active !== undefined)
      this.#rows.querySelector<HTMLElement>(`li[data-run="${CSS.escape(active)}"] input`)?.focus();
  }

  #hover(run: number | null): void {
    this.store.hovered = run;
    this.store.tell('hover');
  }

  #row(run: RunEntry, isShown: boolean): HTMLElement {
    const { store } = this;
    const { color, dash } = store.styleOf(run);
    const box = h('input', { type: 'checkbox', checked: isShown, onchange: () => store.show([run], box.checked) });
    const figure = run.bestAccuracy !== null ? percent(run.bestAccuracy) : run.loss !== null ? show(run.loss) : '';
    return h(
      'li',
      {
        dataset: { run: run.name },
        onpointerenter: () => this.#hover(run.id),
        onpointerleave: () => this.#hover(null),
      },
      h(
        'label',
        { title: `${run.name}\nstep ${run.step.toLocaleString('en-US')}` },
        box,
        h('i', { class: dash.length > 0 ? 'swatch dashed' : 'swatch', style: { '--run': color } }),
        h('span', { class: 'run-name' }, run.name),
        run.isLive && h('span', { class: 'live', title: 'being written' }, 'live'),
      ),
      run.notes.length > 0 &&
        h('span', { class: 'warn', role: 'img', title: run.notes.join('\n'), 'aria-label': run.notes.join(' ') }, '⚠'),
      h('span', { class: 'figure', title: run.bestAccuracy !== null ? 'best accuracy' : 'loss' }, figure),
      h(
        'button',
        {
          type: 'button',
          class: 'icon only',
          title: 'Draw this one alone',
          'aria-label': `Draw ${run.name} alone`,
          onclick: () => {
            store.focus = run.id;
            for (const one of store.found) if (one.id !== run.id) store.hide(one);
            store.show([run], true);
          },
        },
        '◎',
      ),
    );
  }
}
