/** The runs' parameters beside each other: those that differ, or all; and whatever else runs say in words. */
import { duration, fill, h, percent } from './dom.js';
import type { Facts } from './facts.js';
import type { Store } from './store.js';
import { empty, type View } from './view.js';

/** Shown elsewhere, or as a table. */
const ELSEWHERE = new Set(['parameters', 'evaluation/confusion', 'evaluation/samples']);

export class SettingsView implements View {
  readonly element = h('div', { class: 'view' });
  readonly #all = h('input', { type: 'checkbox', onchange: () => this.#update() });
  readonly #stop: () => void;

  constructor(
    private readonly store: Store,
    private readonly facts: Facts,
  ) {
    this.#stop = store.listen((change) => {
      if (change !== 'range' && change !== 'hover') this.#update();
    });
    this.#update();
  }

  remove(): void {
    this.#stop();
  }

  #update(): void {
    const { shown } = this.store;
    const found = shown.map((run) => ({ run, details: this.facts.of(run) }));
    const names = [...new Set(found.flatMap(({ details }) => Object.keys(details?.parameters ?? {})))];
    const rows = names.map((name) => {
      const values = found.map(({ details }) => details?.parameters[name] ?? '–');
      return { name, values, differs: new Set(values).size > 1 };
    });
    const isComparison = shown.length > 1;
    const chosen = isComparison && !this.#all.checked ? rows.filter(({ differs }) => differs) : rows;
    if (shown.length === 0) {
      fill(this.element, empty('No runs chosen', 'Choose some at the left.'));
      return;
    }
    const head = h(
      'tr',
      {},
      h('th', {}, 'Parameter'),
      ...found.map(({ run }) =>
        h('th', {}, h('i', { class: 'swatch', style: { background: this.store.styleOf(run).color } }), run.name),
      ),
    );
    const fact = (name: string, values: readonly string[]) =>
      h('tr', { class: 'fact' }, h('th', {}, name), ...values.map((value) => h('td', {}, value)));
    const texts = found.flatMap(({ run, details }) =>
      Object.entries(details?.texts ?? {})
        .filter(([tag]) => !ELSEWHERE.has(tag))
        .map(([tag, { text }]) =>
          h('details', { class: 'card text' }, h('summary', {}, `${tag} of ${run.name}`), h('pre', {}, text)),
        ),
    );
    const scroll = this.element.querySelector('.table-frame')?.scrollLeft ?? 0;
    fill(
      this.element,
      isComparison &&
        rows.length > 0 &&
        h('div', { class: 'view-bar' }, h('label', { class: 'check' }, this.#all, ' also what is the same')),
      h(
        'div',
        { class: 'card table-frame' },
        h(
          'table',
          { class: 'facts' },
          h('thead', {}, head),
          h(
            'tbody',
            {},
            fact(
              'best accuracy',
              shown.map(({ bestAccuracy }) => (bestAccuracy === null ? '–' : percent(bestAccuracy, 2))),
            ),
            fact(
              'steps',
              shown.map(({ step }) => step.toLocaleString('en-US')),
            ),
            fact(
              'time',
              shown.map(({ begin, end }) => (begin === null || end === null ? '–' : duration(end - begin))),
            ),
            fact(
              'begun',
              shown.map(({ begin }) => (begin === null ? '–' : new Date(begin * 1000).toLocaleString())),
            ),
            ...chosen.map(({ name, values, differs }) =>
              h(
                'tr',
                { class: differs && isComparison ? 'differs' : '' },
                h('th', {}, name),
                ...values.map((value) => h('td', {}, value)),
              ),
            ),
          ),
        ),
      ),
      rows.length === 0
        ? h(
            'p',
            { class: 'section-note' },
            'The chosen runs say nothing about their parameters. Runs of Lockstep write them with their first figures.',
          )
        : isComparison &&
            chosen.length === 0 &&
            h('p', { class: 'section-note' }, 'All of these runs’ parameters are the same.'),
      ...texts,
    );
    const frame = this.element.querySelector('.table-frame');
    if (frame) frame.scrollLeft = scroll;
  }
}
