/*
 * Where lines for people go. The run loop hands one of these to everything that speaks, so that lines and the progress
 * bar do not write over each other. It is not a logging framework: no levels to configure, no files.
 */

/** Receives lines for people; a line has no line break at its end. */
export interface Log {
  info(line: string): void;
  warning(line: string): void;
}

/** Writes to standard error; warnings begin with `warning: `. */
export const stderrLog: Log = {
  info: (line) => void process.stderr.write(`${line}\n`),
  warning: (line) => void process.stderr.write(`warning: ${line}\n`),
};

/** Drops everything. */
export const silentLog: Log = { info() {}, warning() {} };

/** Keeps every line, with `info: ` or `warning: ` before it; for tests. */
export function recordingLog(): Log & { readonly lines: string[] } {
  const lines: string[] = [];
  return {
    lines,
    info: (line) => void lines.push(`info: ${line}`),
    warning: (line) => void lines.push(`warning: ${line}`),
  };
}
