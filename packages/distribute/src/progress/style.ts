/**
 * How a program's output looks where nobody said it: a bar on a terminal, plain lines elsewhere, colours where they are wanted.
 */

/** What may be asked for; `auto` looks at where the output goes. */
export type ProgressMode = 'auto' | 'bar' | 'plain' | 'none';
export type ColorMode = 'auto' | 'always' | 'never';

/** The parts of an output stream that the look of the output depends on. */
export interface OutputStream {
  readonly isTTY?: boolean;
}

/**
 * Whether to use colours. A mode other than `auto` wins over the environment; then a non-empty NO_COLOR
 * (no-color.org) and TERM=dumb mean none; then a terminal means colours.
 */
export function useColor(
  mode: ColorMode,
  stream: OutputStream = process.stderr,
  env: Readonly<Record<string, string | undefined>> = process.env,
): boolean {
  if (mode !== 'auto') return mode === 'always';
  if (env.NO_COLOR || env.TERM === 'dumb') return false;
  return stream.isTTY === true;
}

/** How progress is shown in the end: `auto` is a bar on a terminal that can move its cursor, and plain lines elsewhere. */
export function progressStyle(
  mode: ProgressMode,
  stream: OutputStream = process.stderr,
  env: Readonly<Record<string, string | undefined>> = process.env,
): 'bar' | 'plain' | 'none' {
  if (mode !== 'auto') return mode;
  return stream.isTTY === true && env.TERM !== 'dumb' ? 'bar' : 'plain';
}
