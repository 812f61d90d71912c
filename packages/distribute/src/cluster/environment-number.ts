/** Numbers in the environment: a launcher's variables, and ours. What is no number is an error that names the variable. */
import { ClusterError } from './cluster-spec.js';

/**
 * A whole number from 0 on.
 * @param byDefault where the variable is not set; without it that is an error too
 * @throws ClusterError naming the variable and its value
 */
export function environmentNumber(environment: NodeJS.ProcessEnv, name: string, byDefault?: number): number {
  const value = environment[name];
  if (value === undefined && byDefault !== undefined) return byDefault;
  if (value !== undefined && /^\d{1,9}$/.test(value.trim())) return Number(value);
  throw new ClusterError(
    `The environment variable ${name} is ${value === undefined ? 'not set' : `'${value.slice(0, 80)}'`}, and must be a whole number.\n` +
      'help: the launcher (mpirun, srun, lockstep launch) sets it; unset it where it was set by hand.',
  );
}
