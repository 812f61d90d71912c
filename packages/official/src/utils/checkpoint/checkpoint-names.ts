/** Names of checkpoints' files in a folder, by their format: how they are made of a step, and what a file's name says. */
import { join } from 'node:path';
import type { CheckpointFormat } from './checkpoint-format.js';

const PREFIX = 'ckpt-';

/** What a format's files are called in a folder. */
export class Names {
  readonly #prefix: string;
  readonly #pattern: RegExp;
  readonly #alike: RegExp;
  readonly #leftover: RegExp;

  constructor(
    readonly format: CheckpointFormat,
    private readonly directory: string,
  ) {
    this.#prefix = format.prefix ?? PREFIX;
    const prefix = escaped(this.#prefix);
    const all = format.endings.map(escaped);
    const list = format.list ? `|${escaped(format.list.file)}` : '';
    this.#pattern = new RegExp(`^${prefix}(0|[1-9]\\d*)${all.at(-1)}$`);
    this.#alike = new RegExp(`^${prefix}.*${all.at(-1)}$`, 's');
    this.#leftover = new RegExp(`^(?:${prefix}\\d+(?:${all.join('|')})${list})\\.(\\d+)\\.tmp$`);
  }

  /** Without an ending. */
  name(step: number): string {
    return `${this.#prefix}${step}`;
  }

  paths(step: number): string[] {
    return this.format.endings.map((ending) => join(this.directory, `${this.name(step)}${ending}`));
  }

  /** Of the file that makes it whole. */
  path(step: number): string {
    return this.paths(step).at(-1) as string;
  }

  /** Null: it is not the file that makes a checkpoint whole. */
  stepOf(file: string): number | null {
    const step = Number(this.#pattern.exec(file)?.[1]);
    return Number.isSafeInteger(step) ? step : null;
  }

  /** Whether it looks like a checkpoint to a person, and is none. */
  isAlike(file: string): boolean {
    return this.#alike.test(file) && this.stepOf(file) === null;
  }

  /** The process that wrote a file to a temporary name. */
  writerOf(file: string): number | null {
    const pid = this.#leftover.exec(file)?.[1];
    return pid === undefined ? null : Number(pid);
  }
}

function escaped(text: string): string {
  return text.replaceAll('.', '\\.');
}
