/**
 * Files in /dev/shm through which Open MPI 4's ranks of one machine exchange messages. MPI_Finalize removes them; after any other
 * end they stay, and hold memory until the next boot. Only those of one job are touched, by its number.
 */
import { existsSync, readdirSync, unlinkSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';

const FOLDER = '/dev/shm';

/** The job's name as its ranks have it; undefined outside a job. Open MPI 4: its number, in decimal. */
export function jobName(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  return environment.PMIX_NAMESPACE;
}

/**
 * Removes what is left of a job on this machine. Ranks that live keep what they have mapped.
 *
 * @param job its name, as ranks find it in PMIX_NAMESPACE; a name that is no number (Open MPI 5, which cleans up by itself) removes nothing.
 * @param uid of the user whose job it is.
 * @returns how many files were removed.
 */
export function removeSegments(job: string | undefined, folder = FOLDER, uid = userInfo().uid): number {
  if (process.platform !== 'linux' || job === undefined || !/^\d{1,10}$/.test(job)) return 0;
  // 'vader_segment.HOST.USER.JOB.RANK': the job's number in hexadecimal, the user's and the rank in decimal.
  const ending = new RegExp(`^vader_segment\\..*\\.${uid}\\.${Number(job).toString(16)}\\.\\d+$`);
  let removed = 0;
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    if (!ending.test(name)) continue;
    try {
      unlinkSync(join(folder, name));
      removed++;
    } catch {
      // Another rank was faster with this one; not necessarily with the next.
    }
  }
  return removed;
}
