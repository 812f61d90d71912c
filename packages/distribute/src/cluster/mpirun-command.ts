/**
 * The mpirun line for a program: composed here, so that `lockstep launch` and the error of a program that was started
 * without it show the same command.
 *
 * It runs nothing. Open MPI ignores MCA parameters that its version does not know, so one line serves 4 and 5.
 */
import { hostname, networkInterfaces } from 'node:os';
import type { Host } from './kubernetes.js';

export interface MpirunPlan {
  /** None: this machine. */
  readonly hosts: readonly Host[];
  /** Processes in all; default: the hosts' slots. */
  readonly processes?: number;
  readonly program: readonly string[];
  /** Variables that remote processes get as well, 'NAME' or 'NAME=value'. */
  readonly forward?: readonly string[];
  /** Further arguments of mpirun. */
  readonly mpirunArgs?: readonly string[];
  /**
   * Seconds that survivors get to say which rank was lost, before mpirun ends them. Default 1, which is mpirun's own. With more,
   * Open MPI 4 waits nearly twice as long after a failure, even if all have ended, and shows no rank's output meanwhile.
   */
  readonly graceSeconds?: number;
}

/** Variables of Lockstep and its libraries that change what a process does. */
const FORWARDED = /^(LOCKSTEP_|ONEDNN_|DNNL_|OMP_|NODE_OPTIONS$|NO_COLOR$)/;

/** Arguments of the command, mpirun first. */
export function mpirunCommand(plan: MpirunPlan, environment: NodeJS.ProcessEnv = process.env): string[] {
  const slots = plan.hosts.reduce((sum, host) => sum + host.slots, 0);
  const processes = plan.processes ?? Math.max(1, slots);
  const isLocal = plan.hosts.every(({ name }) => isThisMachine(name));
  const forwarded = [
    ...Object.keys(environment)
      .filter((name) => FORWARDED.test(name))
      .sort(),
    ...(plan.forward ?? []),
  ];
  return [
    'mpirun',
    '-np',
    String(processes),
    ...(isLocal
      ? ['--oversubscribe']
      : ['--host', plan.hosts.map(({ name, slots: count }) => `${name}:${count}`).join(',')]),
    // Each process places its replicas on cores by itself; mpirun would pin a whole process to one core.
    '--bind-to',
    'none',
    ...(process.getuid?.() === 0 ? ['--allow-run-as-root'] : []),
    '--mca',
    'odls_base_sigkill_timeout',
    String(plan.graceSeconds ?? 1),
    ...forwarded.flatMap((name) => ['-x', name]),
    ...(plan.mpirunArgs ?? []),
    ...plan.program,
  ];
}

/** As a person types it. */
export function shellQuote(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
}

/**
 * Reads 'a:2,b:2' (a slot each where no number stands).
 * @throws RangeError naming the part that is not a host.
 */
export function parseHosts(text: string): Host[] {
  return text.split(',').map((part) => {
    const match = /^\s*(\w[\w.-]*)(?::(\d+))?\s*$/.exec(part);
    const slots = Number(match?.[2] ?? 1);
    if (match && slots > 0) return { name: match[1] as string, slots };
    throw new RangeError(`'${part}' in '${text}' is not a host.\nhelp: host:processes, separated by commas: a:2,b:2`);
  });
}

function isThisMachine(name: string): boolean {
  if (name === 'localhost' || name === '::1' || name.startsWith('127.')) return true;
  if (name === hostname()) return true;
  return Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === name));
}
