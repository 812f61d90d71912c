/**
 * What `lockstep launch` has to hear and mpirun does not tell it: the chief prints a marked line when it begins and one with
 * its exit status when it ends, which launch takes out of the output. mpirun waits without a limit for a machine that does
 * not answer, before it starts anybody and when everybody else has ended; with --enable-recovery it reports success whatever
 * its processes do.
 */
import { defaultLog } from '../log.js';
import { jobName } from './segments.js';

/** Holds the mark; set by launch only. */
export const STATUS_MARK_VARIABLE = 'LOCKSTEP_STATUS_MARK';
/** What stands behind the mark when the chief begins; the job's name follows. */
export const BEGUN = 'begun';

/** In the chief, at its beginning; elsewhere nothing. */
export function reportBeginning(): void {
  report(`${BEGUN} ${jobName() ?? ''}`, defaultLog);
}

/** In the chief, at its end; elsewhere nothing. @param log Receives a line. Default: standard error, of the main thread. */
export function reportStatus(status: number, log: (line: string) => void = defaultLog): void {
  // On a line of its own, whatever was printed last.
  report(String(status), (line) => log(`\n${line}`));
}

function report(what: string, log: (line: string) => void): void {
  // launch starts processes with mpirun, so its variable says who is the chief.
  const { [STATUS_MARK_VARIABLE]: mark, OMPI_COMM_WORLD_RANK: rank } = process.env;
  if (mark && rank === '0') log(`${mark} ${what}`);
}
