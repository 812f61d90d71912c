/** What every benchmark's command does before it measures: flags, `--help`, and errors that become an exit status. */
import { type FlagValues, parseFlags, UsageError } from '@lockstep/official/utils/flags/core';
import { reportErrors } from '../backend.js';

/**
 * Parses `argv` into `flags`, then runs `measure`.
 * @returns exit status: `measure`'s, 0 after help, 1 after an error, 2 after a flag that cannot be
 */
export function benchMain(argv: readonly string[], flags: FlagValues, measure: () => Promise<number>): Promise<number> {
  return reportErrors(async () => {
    try {
      const { help } = parseFlags(argv, flags);
      if (!help) return await measure();
      process.stdout.write(help.text);
      return 0;
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      process.stderr.write(`${error.message}\n`);
      return 2;
    }
  });
}
