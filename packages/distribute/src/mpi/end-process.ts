/**
 * The end of a process whose main thread is inside MPI, where no JavaScript and no signal handler of it will run again: whoever finds
 * that out, the watch or the watchdog, says why and kills it. The launcher ends the job then.
 */
import { writeSync } from 'node:fs';
import { jobName, removeSegments } from './segments.js';
import { reportStatus } from './status-mark.js';

/** Exit status of what SIGKILL has ended, as a shell counts. */
const KILLED = 137;

/** @param message What has happened, and help. */
export function endProcess(message: string): void {
  const log = (line: string) => writeSync(2, `${line}\n`);
  log(message);
  reportStatus(KILLED, log);
  removeSegments(jobName());
  process.kill(process.pid, 'SIGKILL');
}
