/** Checks that more than one module of flags needs: bounds of what a machine can have, and what no path or number may be. */
import type { FlagValues } from './flag-values.js';

/** Most devices or threads that a flag may ask for: more are a typing mistake, and would be found out by running out of memory. */
export const MOST_THREADS = 1024;

/** Longest wait in seconds: a timer takes no more than 2³¹ ms. */
export const LONGEST_SECONDS = 2_000_000;

/** The flag names a file or a folder: it is not empty, and has no character that no path has. None is fine where it is the default. */
export function requirePath(flags: FlagValues, name: string): void {
  flags.registerValidator(
    name,
    (value) => value === null || (value !== '' && !String(value).includes('\0')),
    `${name} should be a path, and is empty or has a NUL character`,
  );
}

/** The flag holds a number that is finite, or none. */
export function requireFinite(flags: FlagValues, name: string): void {
  flags.registerValidator(
    name,
    (value) => value === null || Number.isFinite(value),
    `${name} should be a finite number`,
  );
}
