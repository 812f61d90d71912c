/** `lockstep board MODEL_DIR`: a page on this machine that follows runs, or compares finished ones. */
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { PORT, startBoard } from '../board/server.js';
import { operandMain } from '../flag-main.js';
import { serveUntilStopped } from '../web/serve-until-stopped.js';

declare module '@lockstep/official/utils/flags/flag-values' {
  interface FlagTypes {
    host: string;
    port: number;
    open: boolean;
  }
}

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return operandMain(
    argv,
    flags,
    {
      count: 1,
      what: 'one folder',
      remedy: 'Write `lockstep board MODEL_DIR`; a folder of several model folders shows them side by side.',
    },
    async (folder: string) => {
      const { host, port } = flags.FLAGS;
      const board = await startBoard({ folder, host, ...(flags.isGiven('port') && { port }) });
      return await serveUntilStopped(board, { title: `The board of ${folder}`, open: flags.FLAGS.open });
    },
  );
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep board',
    summary:
      'Shows the runs below a folder in a browser: live ones as they go, finished ones side by side. It reads event files, so runs of other tools show as well.',
    examples: ['lockstep board model', 'lockstep board runs --port=8080'],
  });
  const key = true;
  flags.DEFINE_string({
    name: 'host',
    default: '127.0.0.1',
    key,
    help: 'Address to listen at. 127.0.0.1 is this machine alone; at another one the page wants the token that is printed with its address.',
  });
  flags.DEFINE_integer({
    name: 'port',
    default: PORT,
    lowerBound: 0,
    upperBound: 65_535,
    key,
    help: 'Port to listen at; 0 takes a free one. Where the usual one is taken, a free one is taken, too.',
  });
  flags.DEFINE_bool({ name: 'open', default: false, key, help: 'Open the page in a browser.' });
  return flags;
}
