/** What a command of its own flags does before its work: parse them, `--help`, and errors that become an exit status. */
import { type FlagValues, parseFlags, UsageError } from '@lockstep/official/utils/flags/core';
import { reportErrors } from './backend.js';

/**
 * Parses `argv` into `flags`, then runs `body`.
 * @returns exit status: `body`'s, 0 after help, 1 after an error, 2 after a flag that cannot be
 */
export function flagMain(argv: readonly string[], flags: FlagValues, body: () => Promise<number>): Promise<number> {
  return reportErrors(async () => {
    try {
      const { help } = parseFlags(argv, flags);
      if (!help) return await body();
      process.stdout.write(help.text);
      return 0;
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      process.stderr.write(`${error.message}\n`);
      return 2;
    }
  });
}
