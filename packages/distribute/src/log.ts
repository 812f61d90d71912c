import { fitText } from './progress/progress.js';

/** Where a line goes that tells or warns of something, unless the program takes it. On a terminal it breaks between words. */
export function defaultLog(line: string): void {
  process.stderr.write(`${fitText(line, process.stderr)}\n`);
}
