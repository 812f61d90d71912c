/** One run as its event files have it so far: series, and the newest text and picture of each tag. It reads on when it is asked. */
import { join } from 'node:path';
import type { ValueVisitor } from './event-scan.js';
import { EventTail } from './event-tail.js';
import type { RunDetails } from './protocol.js';
import { Series } from './series.js';

/** What one run may take beside its series; more is passed over. */
const MAX_TEXT = 2 ** 20;
const MAX_IMAGE_BYTES = 8 * 2 ** 20;
const MAX_RARE = 64;

/** As a folder's listing has a file. */
export interface FoundFile {
  readonly name: string;
  readonly size: number;
  readonly ino: number;
  readonly mtimeMs: number;
}

interface Followed {
  readonly tail: EventTail;
  readonly order: number;
  size: number;
  ino: number;
  /** Nothing whole was left of it. */
  isRead: boolean;
}

export class Run implements ValueVisitor {
  readonly series = new Map<string, Series>();
  readonly texts = new Map<string, { step: number; text: string }>();
  readonly images = new Map<string, { step: number; bytes: Uint8Array }>();
  begin: number | null = null;
  end: number | null = null;
  step = 0;
  isLive = false;
  timelines: readonly string[] = [];
  #files = new Map<string, Followed>();
  #order = 0;
  #reading = 0;

  /** @param name as the page shows it @param folder where its files lie */
  constructor(
    readonly id: number,
    readonly name: string,
    readonly folder: string,
  ) {}

  /**
   * Takes note of what the folder holds.
   * @param files event files, in the order in which they were written
   * @returns whether there is something to read
   */
  look(files: readonly FoundFile[]): boolean {
    const isGone = [...this.#files.keys()].some((name) => !files.some((file) => file.name === name));
    const isOther = files.some(({ name, ino, size }) => {
      const known = this.#files.get(name);
      return known && (known.ino !== ino || size < known.tail.offset);
    });
    // Deleted or written anew: what was read of it counts no more, and what counts cannot be told apart.
    if (isGone || isOther) this.#forget();
    let isNew = isGone || isOther;
    for (const { name, size, ino } of files) {
      const known = this.#files.get(name);
      if (known) {
        if (size !== known.size) {
          isNew = true;
          known.isRead = false;
        }
        known.size = size;
      } else {
        this.#files.set(name, {
          tail: new EventTail(join(this.folder, name)),
          order: this.#order++,
          size,
          ino,
          isRead: false,
        });
        isNew = true;
      }
    }
    return isNew;
  }

  /** Reads a slice of one file. @returns whether there may be more */
  read(): boolean {
    for (const file of this.#files.values()) {
      if (file.isRead) continue;
      this.#reading = file.order;
      file.isRead = !file.tail.read(this);
      return true;
    }
    return false;
  }

  scalar(tag: string, step: number, time: number, value: number): void {
    let series = this.series.get(tag);
    if (series === undefined) {
      series = new Series();
      this.series.set(tag, series);
    }
    series.append(step, time, value, this.#reading);
    this.#saw(step, time);
  }

  text(tag: string, step: number, time: number, text: string): void {
    if (text.length <= MAX_TEXT && (this.texts.has(tag) || this.texts.size < MAX_RARE)) {
      this.texts.set(tag, { step, text });
    }
    this.#saw(step, time);
  }

  image(tag: string, step: number, time: number, bytes: Uint8Array): void {
    if (bytes.length <= MAX_IMAGE_BYTES && (this.images.has(tag) || this.images.size < MAX_RARE)) {
      // Not a view: it would keep the whole slice.
      this.images.set(tag, { step, bytes: Uint8Array.from(bytes) });
    }
    this.#saw(step, time);
  }

  get notes(): string[] {
    return [...this.#files].flatMap(([name, { tail, isRead }]) => {
      if (tail.problem !== null) return [`${name} ${tail.problem}.`];
      // While a run is on, its end is on its way.
      const isCut = !this.isLive && tail.waiting > 0 && isRead;
      return isCut ? [`${name} is cut off at byte ${tail.offset}; what is before it is shown.`] : [];
    });
  }

  /** Of evaluations, else of training; null without either. */
  get bestAccuracy(): number | null {
    for (const tag of ['evaluation/accuracy', 'val_accuracy', 'accuracy', 'train_accuracy']) {
      const highest = this.series.get(tag)?.highest ?? null;
      if (highest !== null) return highest;
    }
    return null;
  }

  get details(): RunDetails {
    return {
      id: this.id,
      parameters: parametersIn(this.texts.get('parameters')?.text ?? ''),
      texts: Object.fromEntries(this.texts),
      images: Object.fromEntries([...this.images].map(([tag, { step }]) => [tag, { step }])),
    };
  }

  #saw(step: number, time: number): void {
    if (this.begin === null || time < this.begin) this.begin = time;
    if (this.end === null || time > this.end) this.end = time;
    if (step > this.step) this.step = step;
  }

  #forget(): void {
    this.#files.clear();
    this.series.clear();
    this.texts.clear();
    this.images.clear();
    [this.begin, this.end, this.step] = [null, null, 0];
  }
}

/** Rows of the table that a run's text `parameters` is. */
export function parametersIn(markdown: string): Record<string, string> {
  const rows: Record<string, string> = Object.create(null);
  for (const line of markdown.split('\n').slice(2)) {
    const [, name, value] = /^\| ((?:[^|\\]|\\.)*?) \| ((?:[^|\\]|\\.)*?) \|$/.exec(line) ?? [];
    if (name !== undefined && value !== undefined) rows[plain(name)] = plain(value);
  }
  return rows;
}

const plain = (cell: string): string => cell.replaceAll('\\|', '|');
