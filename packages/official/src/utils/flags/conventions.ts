/*
 * What all modules of flags have in common: upstream's `_conventions.py`. Help texts are wrapped at 80 columns, and the first
 * line starts on a line of its own, under the flag's name.
 */
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
