/** What the network mistakes for what: the confusion matrix and sample pictures of the last evaluation, for each run. */
import type { Confusion, RunDetails, RunEntry, Samples } from '../protocol.js';
import { fill, h, percent } from './dom.js';
import type { Facts } from './facts.js';
import type { Store } from './store.js';
import { empty, type View } from './view.js';

/** Side by side; more are a choice away. */
const MAX_RUNS = 6;
const CONFUSION = 'evaluation/confusion';
const SAMPLES = 'evaluation/samples';
const SAMPLES_IMAGE = 'evaluation/samples_image';

export class EvaluationView implements View {
  readonly element = h('div', { class: 'view' });
  readonly #stop: () => void;
  #drawn = '';

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
    const found = this.store.shown
      .map((run) => ({ run, details: this.facts.of(run) }))
      .filter((one): one is { run: RunEntry; details: RunDetails } => one.details?.texts[CONFUSION] !== undefined)
      .slice(-MAX_RUNS);
    // Redrawn where something is new only: somebody may be looking at a cell.
    const state = JSON.stringify([
      this.store.isDark,
      found.map(({ run, details }) => [run.name, details.texts[CONFUSION]?.step]),
    ]);
    if (state === this.#drawn && this.element.childElementCount > 0) return;
    this.#drawn = state;
    if (found.length === 0) {
      fill(
        this.element,
        empty(
          'No evaluation yet',
          'After each evaluation a run of Lockstep writes which classes were taken for which, and sample pictures.',
          'Runs of other tools and runs with --save_summary_steps=0 have none.',
        ),
      );
      return;
    }
    fill(this.element, h('div', { class: 'grid wide' }, ...found.map(({ run, details }) => this.#card(run, details))));
  }

  #card(run: RunEntry, { texts, images }: RunDetails): HTMLElement {
    const confusion = parse<Confusion>(texts[CONFUSION]?.text, isConfusion);
    const samples = parse<Samples>(texts[SAMPLES]?.text, isSamples);
    const step = texts[CONFUSION]?.step ?? 0;
    const url = images[SAMPLES_IMAGE]
      ? this.store.source.imageUrl(run.id, SAMPLES_IMAGE, images[SAMPLES_IMAGE].step)
      : null;
    return h(
      'section',
      { class: 'card', 'aria-label': `Evaluation of ${run.name}` },
      h(
        'header',
        {},
        h('i', { class: 'swatch', style: { background: this.store.styleOf(run).color } }),
        h('h3', {}, run.name),
        h('span', { class: 'hint' }, `after step ${step.toLocaleString('en-US')}`),
      ),
      h(
        'div',
        { class: 'evaluated' },
        confusion && (confusion.matrix ? matrix(confusion) : pairs(confusion)),
        samples && url !== null && pictures(samples, url),
      ),
    );
  }
}

/** Null for what is no such JSON: another program may have used the tag. */
function parse<T>(text: string | undefined, isRight: (value: Partial<T>) => boolean): T | null {
  try {
    const value = JSON.parse(text ?? 'null') as Partial<T> | null;
    return typeof value === 'object' && value !== null && isRight(value) ? (value as T) : null;
  } catch {
    return null;
  }
}

const isNumber = (value: unknown) => typeof value === 'number';
const areNumbers = (value: unknown) => Array.isArray(value) && value.every(isNumber);
const areRows = (value: unknown) => Array.isArray(value) && value.every(areNumbers);

const isConfusion = ({ classes, images, matrix: rows, pairs: mistakes }: Partial<Confusion>) =>
  isNumber(classes) && isNumber(images) && areRows(rows ?? mistakes);

const isSamples = ({ columns, tile, items }: Partial<Samples>) =>
  isNumber(columns) &&
  areNumbers(tile) &&
  Array.isArray(items) &&
  items.every((one) => isNumber(one?.label) && isNumber(one?.prediction) && isNumber(one?.probability));

const nameOf = (names: Readonly<Record<string, string>> | undefined, label: number): string =>
  names?.[label] ?? String(label);

function matrix({ matrix: rows = [], names, classes, images }: Confusion): HTMLElement {
  const said = h(
    'p',
    { class: 'section-note' },
    `${images.toLocaleString('en-US')} pictures; a row is what they are, a column what they were taken for.`,
  );
  const usual = said.textContent ?? '';
  const isSmall = classes <= 12;
  const table = h('div', {
    class: isSmall ? 'matrix small' : 'matrix',
    role: 'img',
    'aria-label': 'Confusion matrix',
    style: { '--classes': String(classes) },
  });
  if (isSmall) {
    table.append(
      h('span'),
      ...rows.map((_, column) =>
        h('span', { class: 'matrix-name above', title: nameOf(names, column) }, nameOf(names, column)),
      ),
    );
  }
  for (const [label, row] of rows.entries()) {
    const sum = row.reduce((total, count) => total + count, 0);
    if (isSmall) table.append(h('span', { class: 'matrix-name', title: nameOf(names, label) }, nameOf(names, label)));
    for (const [prediction, count] of row.entries()) {
      const part = sum === 0 ? 0 : count / sum;
      const cell = h(
        'span',
        { class: label === prediction ? 'cell right' : 'cell', style: { '--part': part.toFixed(4) } },
        isSmall && count > 0 ? count : '',
      );
      if (part > 0.5) cell.classList.add('strong');
      const what =
        label === prediction
          ? `${nameOf(names, label)}: ${count} of ${sum} are right (${percent(part)}).`
          : `${nameOf(names, label)} taken for ${nameOf(names, prediction)}: ${count} of ${sum} (${percent(part)}).`;
      cell.addEventListener('pointerenter', () => {
        said.textContent = what;
      });
      table.append(cell);
    }
  }
  table.addEventListener('pointerleave', () => {
    said.textContent = usual;
  });
  return h('div', {}, h('div', { class: 'matrix-frame' }, table), said);
}

function pairs({ pairs: list = [], names, images }: Confusion): HTMLElement {
  return h(
    'div',
    {},
    h(
      'table',
      { class: 'facts' },
      h('thead', {}, h('tr', {}, ...['is', 'taken for', 'times'].map((name) => h('th', {}, name)))),
      h(
        'tbody',
        {},
        ...list.map(([label, prediction, count]) =>
          h('tr', {}, h('td', {}, nameOf(names, label)), h('td', {}, nameOf(names, prediction)), h('td', {}, count)),
        ),
      ),
    ),
    h('p', { class: 'section-note' }, `The most frequent mistakes of ${images.toLocaleString('en-US')} pictures.`),
  );
}

/** Tiles of one picture. */
function pictures({ items, columns, tile: [height, width], names }: Samples, url: string): HTMLElement {
  const scale = Math.max(1, Math.round(64 / width));
  return h(
    'div',
    { class: 'samples' },
    ...items.map(({ label, prediction, probability }, i) => {
      const isRight = label === prediction;
      const tile = h('i', {
        role: 'img',
        'aria-label': `picture of ${nameOf(names, label)}`,
        style: {
          width: `${width * scale}px`,
          height: `${height * scale}px`,
          'background-image': `url("${url}")`,
          'background-size': `${columns * width * scale}px auto`,
          'background-position': `${-(i % columns) * width * scale}px ${-Math.floor(i / columns) * height * scale}px`,
        },
      });
      return h(
        'figure',
        { class: isRight ? 'right' : 'wrong' },
        tile,
        h(
          'figcaption',
          { title: `is ${nameOf(names, label)}, taken for ${nameOf(names, prediction)}` },
          h('b', {}, nameOf(names, prediction)),
          ` ${percent(probability, 0)}`,
          h('small', {}, isRight ? 'right' : `is ${nameOf(names, label)}`),
        ),
      );
    }),
  );
}
