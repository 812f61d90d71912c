import { host } from '#host';
import type { Communicator } from './communicator/communicator.js';

/** Where a line goes that tells or warns of something, unless the program takes it. */
export function defaultLog(line: string): void {
  host.log(line);
}

/** {@link defaultLog} of the first replica alone: what all replicas have to say is said once. */
export function sayOnce({ rank }: Pick<Communicator, 'rank'>): (line: string) => void {
  return (line) => {
    if (rank === 0) defaultLog(line);
  };
}
