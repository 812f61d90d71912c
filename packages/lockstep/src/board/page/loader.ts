/** Series for all plots that want some at the same moment, in one request. An answer that a newer one has overtaken counts no more. */
import type { SeriesAnswer } from '../protocol.js';
import type { Store } from './store.js';

/** Of one series: about two of a plot's pixels each; and of all in a plot, where there are many. */
const POINTS = 500;
const FEWEST_POINTS = 40;
const PLOT_POINTS = 16_000;

export class Loader {
  #wanted = new Map<string, ((answers: readonly SeriesAnswer[]) => void)[]>();
  #timer: number | null = null;
  #questions = 0;
  /** By tag: the newest question's that was answered. */
  readonly #newest = new Map<string, { readonly question: number; readonly answers: readonly SeriesAnswer[] }>();

  constructor(private readonly store: Store) {}

  /** Of all runs that are drawn, in the range that is. */
  series(tag: string): Promise<readonly SeriesAnswer[]> {
    return new Promise((resolve) => {
      this.#wanted.set(tag, [...(this.#wanted.get(tag) ?? []), resolve]);
      this.#timer ??= window.setTimeout(() => void this.#ask(), 0);
    });
  }

  async #ask(): Promise<void> {
    const wanted = this.#wanted;
    this.#wanted = new Map();
    const question = ++this.#questions;
    this.#timer = null;
    const { range, axis, shown, source } = this.store;
    // A little more than is seen, to move in.
    const margin = range ? (range.max - range.min) / 4 : 0;
    const part = range && axis === 'step' ? { from: range.min - margin, to: range.max + margin } : {};
    const runs = shown.map(({ id }) => id);
    const points = Math.max(FEWEST_POINTS, Math.min(POINTS, Math.floor(PLOT_POINTS / runs.length)));
    let answers: SeriesAnswer[] = [];
    try {
      answers = await source.series({ runs, tags: [...wanted.keys()], points, ...part });
    } catch {
      // The connection's state is said elsewhere; what is drawn stays.
      return;
    }
    for (const [tag, waiting] of wanted) {
      const known = this.#newest.get(tag);
      const mine =
        known && known.question > question ? known : { question, answers: answers.filter((one) => one.tag === tag) };
      this.#newest.set(tag, mine);
      for (const resolve of waiting) resolve(mine.answers);
    }
  }
}
