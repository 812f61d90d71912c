/** How well runs learn: losses, accuracies, learning rates; whatever names they have. */
import { ChartGrid } from './chart-grid.js';
import { h, percent } from './dom.js';
import type { ChartOptions } from './line-chart.js';
import type { Loader } from './loader.js';
import type { Store } from './store.js';
import { empty, type View } from './view.js';

/** Lockstep's own tags, by what a person would look at first. */
const KNOWN: readonly ChartOptions[] = [
  { title: 'Training loss', tag: 'loss', hint: 'with weight decay' },
  { title: 'Evaluation accuracy', tag: 'evaluation/accuracy', format: (value) => percent(value), isSmoothed: false },
  {
    title: 'Training accuracy',
    tag: 'train_accuracy',
    hint: 'since the last evaluation',
    format: (value) => percent(value),
  },
  { title: 'Training accuracy, top 5', tag: 'train_accuracy_top_5', format: (value) => percent(value) },
  { title: 'Evaluation loss', tag: 'evaluation/loss', isSmoothed: false },
  { title: 'Learning rate', tag: 'learning_rate', isSmoothed: false },
  {
    title: 'Evaluation accuracy, top 5',
    tag: 'evaluation/accuracy_top_5',
    format: (value) => percent(value),
    isSmoothed: false,
  },
  { title: 'Cross-entropy', tag: 'cross_entropy', hint: 'loss without weight decay' },
  { title: 'Weight decay term', tag: 'l2_loss', isSmoothed: false },
];
/** Of other tools. */
const PATTERN = /loss|acc|error|perplexity|auc|precision|recall|f1|learning.?rate|(^|[/_])lr($|[/_])/i;

export function isLearning(tag: string): boolean {
  return KNOWN.some((one) => one.tag === tag) || PATTERN.test(tag);
}

export class LearningView implements View {
  readonly element = h('div', { class: 'view' });
  readonly #grid: ChartGrid;
  readonly #stop: () => void;

  constructor(
    private readonly store: Store,
    loader: Loader,
  ) {
    this.#grid = new ChartGrid(store, loader);
    this.element.append(this.#grid.element);
    this.#stop = store.listen((change) => {
      if (change === 'view' || change === 'data') this.#update();
    });
    this.#update();
  }

  remove(): void {
    this.#stop();
    this.#grid.remove();
  }

  #update(): void {
    const { tags, shown } = this.store;
    const known = KNOWN.filter(({ tag }) => tags.includes(tag));
    const others = tags.filter((tag) => PATTERN.test(tag) && !KNOWN.some((one) => one.tag === tag));
    this.#grid.show([...known, ...others.map((tag) => ({ title: tag, tag }))]);
    const said = this.element.querySelector('.empty-state');
    if (known.length + others.length > 0 || shown.length === 0) said?.remove();
    else if (!said)
      this.element.append(
        empty(
          'No losses or accuracies yet',
          'A run writes its first figures with its first step. Other figures are in the view All.',
        ),
      );
  }
}
