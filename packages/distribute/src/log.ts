import { host } from '#host';

/** Where a line goes that tells or warns of something, unless the program takes it. */
export function defaultLog(line: string): void {
  host.log(line);
}
