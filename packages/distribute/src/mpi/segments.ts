/**
 * Files in /dev/shm through which Open MPI 4's ranks of one machine exchange messages. MPI_Finalize removes them; after any other
 * end they stay, and hold memory until the next boot. Only those of one job are touched, by its number.
 */
import { readdirSync, unlinkSync } from 'node:fs';
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
 * @param job see {@link jobName}; a name that is no number (Open MPI 5, which cleans up by itself) removes nothing.
 * @returns how many files were removed.
 */
export function removeSegments(job: string | undefined, folder = FOLDER): number {
  if (process.platform !== 'linux' || job === undefined || !/^\d{1,10}$/.test(job)) return 0;
  // 'vader_segment.HOST.USER.JOB.RANK', the numbers but for the user's in hexadecimal.
  const ending = new RegExp(
    `^vader_segment\\..*\\.${userInfo().uid.toString(16)}\\.${Number(job).toString(16)}\\.[0-9a-f]+$`,
  );
  try {
    const names = readdirSync(folder).filter((name) => ending.test(name));
    for (const name of names) unlinkSync(join(folder, name));
    return names.length;
  } catch {
    // No such folder, or another rank was faster.
    return 0;
  }
}
