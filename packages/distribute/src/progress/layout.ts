/**
 * What fits into so many columns: a bar with figures, and lines that break between words. Text in, text out; it knows no stream.
 */

/** One figure of a moment: 'loss 0.125'. */
export interface Figure {
  readonly text: string;
  /** Rank: 1 is given up last. No two figures have the same. */
  readonly wanted: number;
  /** Columns that it takes at its widest, so that a bar does not jump about when 9.9 becomes 10.0. Default: those of the text. */
  readonly widest?: number;
}

export const SEPARATOR = ' · ';
const LONGEST_BAR = 24;
const SHORTEST_BAR = 8;

/**
 * Of the figures the most wanted, in their order, beside a bar that takes a sixth of the columns at least; on a terminal that is too
 * narrow for both, the figures.
 * @param done part that is done, 0..1
 */
export function barLine(figures: readonly Figure[], done: number, columns: number): { bar: string; text: string } {
  const least = Math.max(SHORTEST_BAR, Math.floor(columns / 6));
  const chosen = (count: number) => figures.filter(({ wanted }) => wanted <= count);
  const width = (count: number) =>
    chosen(count).reduce((sum, { text, widest = 0 }) => sum + Math.max(text.length, widest), 0) +
    SEPARATOR.length * (chosen(count).length - 1);
  let count = Math.max(...figures.map(({ wanted }) => wanted));
  while (count > 1 && width(count) + 1 + least > columns) count--;
  const text = chosen(count)
    .map((figure) => figure.text)
    .join(SEPARATOR)
    .slice(0, columns);
  const cells = Math.min(LONGEST_BAR, columns - Math.max(text.length, width(count)) - 1);
  if (cells < SHORTEST_BAR) return { bar: '', text };
  const full = Math.round(cells * Math.min(1, Math.max(0, done)));
  return { bar: '█'.repeat(full) + '░'.repeat(cells - full), text: ` ${text}` };
}

/** A word with the blanks before it: columns of a table stay columns as long as they fit. 98.4 % is one. */
const WORDS = / *[^ ]+(?: %[^ ]*)?/g;

/**
 * Breaks lines that are longer than `columns` between words; what follows a break is indented by two more. A word that is longer than
 * a line is broken behind a slash, as paths are, or stays whole.
 * @param mark put at the end of each line that goes on, as ` \\` in a shell: such lines are not indented, nor words broken.
 */
export function wrapText(text: string, columns: number, mark = ''): string {
  return text
    .split('\n')
    .map((line) => wrapLine(line, columns, mark))
    .join('\n');
}

function wrapLine(line: string, columns: number, mark: string): string {
  if (line.length <= columns) return line;
  const indent = /^ */.exec(line)?.[0] ?? '';
  const further = mark === '' ? `${indent}  ` : indent;
  const lines: string[] = [];
  let current = indent;
  const add = (piece: string) => {
    if (current.trim() !== '' && current.length + piece.length + mark.length > columns) {
      lines.push(current + mark);
      current = further;
    }
    current += current.trim() === '' ? piece.trimStart() : piece;
  };
  for (const word of line.slice(indent.length).match(WORDS) ?? []) {
    const isTooLong = further.length + word.trimStart().length > columns;
    if (!isTooLong || mark !== '') {
      add(word);
      continue;
    }
    // As much of it as there can be stands together.
    if (current.trim() !== '') {
      lines.push(current);
      current = further;
    }
    for (const piece of word.match(/[^/]*\/+|[^/]+/g) ?? []) add(piece);
  }
  return [...lines, current].join('\n');
}
