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
