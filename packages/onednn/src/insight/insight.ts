/**
 * What the backend did: with LOCKSTEP_VERBOSE=1 one line for each kernel that runs (primitive, implementation, shapes,
 * milliseconds) and a summary at the end; with LOCKSTEP_VERBOSE=summary the summary alone. Both go to standard error.
 */
import type { Runnable } from '../primitive.js';

/** Off unless the environment asks. */
export type Verbosity = 'off' | 'summary' | 'lines';

export function verbosityOf(environment: NodeJS.ProcessEnv = process.env): Verbosity {
  const value = environment.LOCKSTEP_VERBOSE ?? '';
  if (value === '' || value === '0') return 'off';
  return value === 'summary' ? 'summary' : 'lines';
}

/** Times by kind of kernel. */
export class KernelSummary {
  readonly #rows = new Map<string, { calls: number; milliseconds: number }>();

  add(kind: string, milliseconds: number): void {
    const row = this.#rows.get(kind);
    if (row) {
      row.calls++;
      row.milliseconds += milliseconds;
    } else this.#rows.set(kind, { calls: 1, milliseconds });
  }

  /** A table, slowest first; empty if nothing ran. */
  toString(): string {
    const rows = [...this.#rows].sort(([, a], [, b]) => b.milliseconds - a.milliseconds);
    if (rows.length === 0) return '';
    const total = rows.reduce((sum, [, row]) => sum + row.milliseconds, 0);
    const lines = rows.map(
      ([kind, { calls, milliseconds }]) =>
        `${kind.padEnd(40)} ${String(calls).padStart(8)} ${milliseconds.toFixed(1).padStart(12)} ${((100 * milliseconds) / total).toFixed(1).padStart(6)}`,
    );
    return [`${'kernel'.padEnd(40)} ${'calls'.padStart(8)} ${'ms'.padStart(12)} ${'%'.padStart(6)}`, ...lines].join(
      '\n',
    );
  }
}

export interface Insight {
  primitive(primitive: Runnable, milliseconds: number): void;
  /** A kernel of TensorFlow.js' `cpu` backend ran. */
  fallback(name: string, shapes: string, milliseconds: number): void;
  /** A step was recorded, or turned out not to be recordable. */
  program(text: string): void;
}

/** Prints to standard error as the verbosity says; null when off. */
export function createInsight(
  verbosity: Verbosity,
  print: (line: string) => void = (l) => process.stderr.write(`${l}\n`),
): Insight | null {
  if (verbosity === 'off') return null;
  const summary = new KernelSummary();
  process.once('exit', () => print(summary.toString()));
  const report = (kind: string, line: string, milliseconds: number) => {
    summary.add(kind, milliseconds);
    if (verbosity === 'lines') print(`lockstep,${line},${milliseconds.toFixed(3)} ms`);
  };
  return {
    primitive({ label, implementation }, milliseconds) {
      report(label.split(' ')[0] as string, `onednn,${label},${implementation}`, milliseconds);
    },
    program(text) {
      print(`lockstep,step,${text}`);
    },
    fallback(name, shapes, milliseconds) {
      report(`cpu:${name}`, `cpu,${name} ${shapes},tfjs`, milliseconds);
    },
  };
}
