/**
 * How `lockstep launch` learns a job's exit status where mpirun does not tell it: the chief prints a marked line at its end,
 * which launch takes out of the output. With --enable-recovery mpirun reports success whatever its processes do; and cut off
 * from a machine it goes on waiting for it when everybody else has ended.
 */
import { launchedProcess } from '@lockstep/distribute';

/** Holds the mark. */
export const STATUS_MARK_VARIABLE = 'LOCKSTEP_STATUS_MARK';

/** In the chief, at its end; elsewhere nothing. */
export function reportStatus(status: number, environment: NodeJS.ProcessEnv = process.env): void {
  const mark = environment[STATUS_MARK_VARIABLE];
  if (mark && launchedProcess(environment)?.rank === 0) process.stderr.write(`\n${mark} ${status}\n`);
}

/** Passes lines on, but for marked ones. */
export class StatusFilter {
  /** What the chief reported; null: nothing. */
  status: number | null = null;
  #rest = '';

  constructor(
    private readonly mark: string,
    private readonly write: (text: string) => void,
    /** Told when the chief has reported. */
    private readonly onStatus: () => void = () => {},
  ) {}

  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() as string;
    for (const line of lines) {
      const at = line.indexOf(`${this.mark} `);
      if (at < 0) this.write(`${line}\n`);
      else {
        this.status = Number(line.slice(at + this.mark.length + 1));
        this.onStatus();
      }
    }
  }

  end(): void {
    if (this.#rest !== '') this.write(this.#rest);
    this.#rest = '';
  }
}
