/** For tests: what a rank found, handed to the test in a file. mpirun cuts and tags output every 2 KB, wherever that is. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Names the folder; mpirun.ts sets it. */
export const RESULTS_VARIABLE = 'LOCKSTEP_TESTING_RESULTS';

/** Path of a rank's result. */
export function resultFile(folder: string, rank: number | string): string {
  return join(folder, `${rank}.json`);
}

/** Once per rank. Does nothing outside of a test. */
export function reportResult(value: unknown): void {
  const { [RESULTS_VARIABLE]: folder, OMPI_COMM_WORLD_RANK: rank } = process.env;
  if (folder && rank !== undefined) writeFileSync(resultFile(folder, rank), JSON.stringify(value));
}
