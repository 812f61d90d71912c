/*
 * Which known name a mistyped one probably meant: the optimal-string-alignment distance (insert, delete, replace, swap
 * neighbours), after case and dashes are folded, with a bonus for names that begin with or contain what was typed.
 */

/** A candidate and how far it is from what was typed; 0 is the same name but for case and dashes. */
export interface Nearest {
  readonly name: string;
  readonly distance: number;
  /** True when the candidate is near enough that the person very likely meant it. */
  readonly likely: boolean;
}

/** Edits that turn a into b: insertion, deletion, replacement, and the swap of two neighbours count 1 each. */
export function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(replace, previous[j]! + 1, current[j - 1]! + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, beforePrevious[j - 2]! + 1);
      }
      current.push(best);
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[b.length]!;
}

const fold = (name: string) => name.toLowerCase().replaceAll('-', '_');

/**
 * The candidate nearest to what was typed, or null when there are no candidates. Equal distances go to the earlier one.
 *
 * @example nearestName('batch-size', ['data_dir', 'batch_size']) // { name: 'batch_size', distance: 0, likely: true }
 */
export function nearestName(typed: string, candidates: Iterable<string>): Nearest | null {
  const wanted = fold(typed);
  let best: Nearest | null = null;
  for (const name of candidates) {
    const folded = fold(name);
    let distance = editDistance(wanted, folded);
    if (wanted.length >= 3 && distance > 0) {
      // `--batch` means batch_size although a dash and four letters are missing: the less is missing, the better.
      const missing = (folded.length - wanted.length) / 100;
      if (folded.startsWith(wanted) || folded.endsWith(wanted)) distance = Math.min(distance, 0.5 + missing);
      else if (folded.includes(wanted)) distance = Math.min(distance, 0.75 + missing);
    }
    if (best === null || distance < best.distance) {
      best = { name, distance, likely: distance < 1 || distance <= wanted.length / 3 };
    }
  }
  return best;
}
