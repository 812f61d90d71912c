/*
 * The two kinds of error that the flag system throws: what a person typed wrongly (UsageError), and what a program
 * defined wrongly (FlagDefinitionError). Neither ends the process: the library throws, `main` prints and chooses the
 * exit status.
 */

/** What a UsageError knows besides its message. */
export interface UsageErrorDetails {
  /** Name of the flag, without dashes, or null when the command line as a whole is at fault. */
  flag?: string | null;
  /** The value as it was typed, or null when there was none. */
  value?: string | null;
  /** What to do about it; a whole sentence. */
  remedy: string;
}

/**
 * Something on the command line, or in a flag file, is wrong. The message holds the flag, the value and the remedy;
 * print it and exit with status 2 (absl exits with 1; 2 is what shells and most Unix tools use for wrong usage).
 */
export class UsageError extends Error {
  /** Name of the flag, without dashes; null when the command line as a whole is at fault. */
  readonly flag: string | null;
  /** The value as typed; null when there was none. */
  readonly value: string | null;
  /** What to do about it. */
  readonly remedy: string;

  constructor(problem: string, details: UsageErrorDetails) {
    super(`${problem}${/[.!?]$/.test(problem) ? '' : '.'} ${details.remedy}`);
    this.name = 'UsageError';
    this.flag = details.flag ?? null;
    this.value = details.value ?? null;
    this.remedy = details.remedy;
  }
}

/** A program used the flag system wrongly: a name defined twice, an unknown name, a value read before parsing. */
export class FlagDefinitionError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FlagDefinitionError';
  }
}
