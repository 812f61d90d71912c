/** What a command of its own flags does before its work: parse them, `--help`, and errors that become an exit status. */
import { type FlagValues, type ParseOptions, parseFlags, UsageError } from '@lockstep/official/utils/flags/core';
import { reportErrors } from './backend.js';

/**
 * Parses `argv` into `flags`, then runs `body`.
 * @param options see {@link parseFlags}; `body` gets the positionals that they allow
 * @returns exit status: `body`'s, 0 after help, 1 after an error, 2 after a flag that cannot be, or a UsageError of `body`
 */
export function flagMain(
  argv: readonly string[],
  flags: FlagValues,
  body: (positionals: readonly string[]) => number | Promise<number>,
  options: ParseOptions = {},
): Promise<number> {
  return reportErrors(async () => {
    try {
      const { help, positionals } = parseFlags(argv, flags, options);
      if (!help) return await body(positionals);
      process.stdout.write(help.text);
      return 0;
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      process.stderr.write(`${error.message}\n`);
      return 2;
    }
  });
}

/** What a command takes beside flags. */
export interface Operands {
  readonly count: number;
  /** 'one folder', for the error. */
  readonly what: string;
  /** 'Write `lockstep board MODEL_DIR`.' */
  readonly remedy: string;
}

/** As {@link flagMain}, for a command that takes so many words beside its flags: `body` gets them; another number of them is a UsageError. */
export function operandMain(
  argv: readonly string[],
  flags: FlagValues,
  { count, what, remedy }: Operands,
  body: (...operands: string[]) => number | Promise<number>,
): Promise<number> {
  const check = (positionals: readonly string[]) => {
    if (positionals.length === count) return body(...positionals);
    const got = positionals.length === 0 ? 'none' : positionals.join(', ');
    throw new UsageError(`${flags.about.program} takes ${what}, got ${got}`, { remedy });
  };
  return flagMain(argv, flags, check, { allowPositionals: true });
}
