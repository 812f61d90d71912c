/**
 * Where everything that a run says goes: progress, lines for people, and the log lines that the Model Garden writes. One
 * object, so that lines and the bar do not write over each other, and so that the last kind can be left out.
 */
import { createProgress, type Progress, progressStyle, useColor } from '@lockstep/distribute/progress';
import type { FlagsObject } from '../flags/core.js';
import { type Log, silentLog } from '../logs/log.js';

export interface Screen {
  readonly style: 'bar' | 'plain' | 'none';
  readonly progress: Progress;
  /** Results, and what a person must know. */
  readonly log: Log;
  /** The Model Garden's own lines: cycles, metrics, the run's description. Its warnings are always shown. */
  readonly detail: Log;
}

export interface ScreenOptions {
  /** Default: standard error, so that standard output stays for results. */
  readonly stream?: NodeJS.WriteStream;
  /** Leave out the lines of `detail`. Default false. */
  readonly brief?: boolean;
  /** Say nothing at all: another process speaks for the run. Default false. */
  readonly silent?: boolean;
}

/** As --progress, --color and --log_steps say. Call `progress.finish()` at the end. */
export function createScreen(
  flagsObj: Pick<FlagsObject, 'progress' | 'color' | 'log_steps'>,
  { stream = process.stderr, brief = false, silent = false }: ScreenOptions = {},
): Screen {
  const style = silent ? 'none' : progressStyle(flagsObj.progress, stream);
  const progress = createProgress({
    style,
    color: useColor(flagsObj.color, stream),
    stream,
    everySteps: flagsObj.log_steps ?? Number.POSITIVE_INFINITY,
  });
  const log: Log = silent
    ? silentLog
    : {
        info: (line) => progress.message(line),
        warning: (line) => progress.message(`warning: ${line}`),
      };
  return { style, progress, log, detail: brief ? { info() {}, warning: log.warning } : log };
}
