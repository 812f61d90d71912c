/*
 * What all modules of flags have in common: upstream's `_conventions.py`. Help texts are wrapped at 80 columns, and the first
 * line starts on a line of its own, under the flag's name; and checks that more than one flag needs.
 */
import type { FlagValues } from './flag-values.js';

/** Width of help output in columns. */
export const HELP_WIDTH = 80;

/**
 * Wraps text to `width` columns. Line breaks in the text are kept as paragraphs; a word longer than a line stays whole.
 *
 * @param indent blanks put before every line, counted in the width.
 */
export function helpWrap(text: string, width = HELP_WIDTH, indent = 0): string {
  const pad = ' '.repeat(indent);
  const lines: string[] = [];
  for (const paragraph of text.split('\n')) {
    let line = '';
    for (const word of paragraph.split(/\s+/).filter((part) => part !== '')) {
      if (line !== '' && indent + line.length + 1 + word.length > width) {
        lines.push(pad + line);
        line = word;
      } else {
        line = line === '' ? word : `${line} ${word}`;
      }
    }
    lines.push(line === '' ? '' : pad + line);
  }
  return lines.join('\n');
}

/** Most devices or threads that a flag may ask for: more are a typing mistake, and would be found out by running out of memory. */
export const MOST_THREADS = 1024;

/** Longest wait in seconds: a timer takes no more than 2³¹ ms. */
export const LONGEST_SECONDS = 2_000_000;

/** The flag names a file or a folder: it is not empty, and has no character that no path has. None is fine where it is the default. */
export function requirePath(flags: FlagValues, name: string): void {
  flags.registerValidator(
    name,
    (value) => value === null || (value !== '' && !String(value).includes('\0')),
    `${name} should be a path, and is empty or has a NUL character`,
  );
}

/** The flag holds a number that is finite, or none. */
export function requireFinite(flags: FlagValues, name: string): void {
  flags.registerValidator(
    name,
    (value) => value === null || Number.isFinite(value),
    `${name} should be a finite number`,
  );
}
