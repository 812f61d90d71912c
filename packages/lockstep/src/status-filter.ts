/** Takes the chief's marked lines (distribute's mpi/status-mark.ts) out of a job's output. */
import { BEGUN } from '@lockstep/distribute';

/** Who is told of them. */
export interface StatusListener {
  onBegun?(): void;
  onStatus?(): void;
}

/** Passes lines on, but for marked ones. */
export class StatusFilter {
  /** What the chief reported; null: nothing. */
  status: number | null = null;
  /** The job's name as the chief knows it; undefined: unknown. */
  job: string | undefined;
  #rest = '';

  constructor(
    private readonly mark: string,
    private readonly write: (text: string) => void,
    private readonly listener: StatusListener = {},
  ) {}

  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() as string;
    for (const line of lines) {
      const at = line.indexOf(`${this.mark} `);
      if (at < 0) this.write(`${line}\n`);
      else this.#take(line.slice(at + this.mark.length + 1).trim());
    }
  }

  end(): void {
    if (this.#rest !== '') this.write(this.#rest);
    this.#rest = '';
  }

  #take(what: string): void {
    const [first, job] = what.split(' ');
    if (first === BEGUN) {
      this.job = job;
      this.listener.onBegun?.();
      return;
    }
    this.status = Number(what);
    this.listener.onStatus?.();
  }
}
