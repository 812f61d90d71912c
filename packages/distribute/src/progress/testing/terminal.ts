/** For tests: enough of a terminal for one line that is written over: rows as they can be read at the end. */
import { stripVTControlCharacters } from 'node:util';
import type { ProgressStream } from '../terminal.js';

export class Terminal implements ProgressStream {
  readonly isTTY = true;
  written = '';

  constructor(readonly columns: number) {}

  write(text: string): boolean {
    this.written += text;
    return true;
  }

  rows(): string[] {
    return this.written.split('\n').map((row) => {
      const last = row.split('\r\x1b[K').at(-1) as string;
      return stripVTControlCharacters(last);
    });
  }
}
