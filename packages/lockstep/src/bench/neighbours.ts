/**
 * What other programs took of this machine while a benchmark ran, so that a figure of a busy machine is not taken for one of an idle
 * one. From /proc/stat (all processors' time) less this process's own and its children's; Linux only.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/** Others may take so much of one core before it is worth a line: the kernel's own threads do. */
const WORTH_SAYING = 0.15;
/** Ticks per second in /proc: USER_HZ, 100 on every Linux there is. */
const HZ = 100;

interface Ticks {
  /** All programs on all processors, and what a hypervisor gave to others. */
  readonly all: number;
  /** This process and its children that have ended. */
  readonly own: number;
  readonly at: number;
}

/** See the file's head. */
export class Neighbours {
  readonly #begin = read();

  /** Cores that others took on average since this was made; null where it cannot be told. */
  get cores(): number | null {
    const end = read();
    const begin = this.#begin;
    if (!begin || !end || end.at <= begin.at) return null;
    const others = end.all - begin.all - (end.own - begin.own);
    return Math.max(0, others / HZ / ((end.at - begin.at) / 1000));
  }

  /** A line for people; null on an idle machine. */
  get note(): string | null {
    return noteOf(this.cores, availableParallelism());
  }
}

/** @param taken see {@link Neighbours.cores} */
export function noteOf(taken: number | null, cores: number): string | null {
  if (taken === null || taken < WORTH_SAYING) return null;
  return `The machine was busy: other programs took ${taken.toFixed(1)} of its ${cores} cores meanwhile. An idle one is faster; compare within one run only.`;
}

function read(): Ticks | null {
  try {
    return {
      ...ticksOf(readFileSync('/proc/stat', 'utf8'), readFileSync('/proc/self/stat', 'utf8')),
      at: performance.now(),
    };
  } catch {
    return null;
  }
}

/** @param machine /proc/stat @param self /proc/self/stat */
export function ticksOf(machine: string, self: string): { all: number; own: number } {
  // user nice system idle iowait irq softirq steal guest guest_nice; a guest's time is in user's.
  const [user, nice, system, , , irq, softirq, steal = 0] = (machine.split('\n')[0] as string)
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const all = [user, nice, system, irq, softirq, steal].reduce((sum: number, ticks) => sum + (ticks as number), 0);
  // After the name, which may hold blanks: state is field 3; utime, stime, cutime, cstime are 14 to 17.
  const fields = self.slice(self.lastIndexOf(')') + 2).split(' ');
  const own = fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0);
  return { all, own };
}
