/**
 * Physical cores among the allowed logical CPUs, and their fair division among replicas.
 *
 * Two hardware threads of one core share its vector units, so a core counts once. A container's CPU quota counts too: a
 * process that may use two cores' time on a machine of 64 must not start 64 replicas.
 */
import { host } from '#host';

/** Logical CPUs that share one physical core, ascending. */
export type PhysicalCore = readonly number[];

/** Cores that one replica owns. */
export interface CoreShare {
  /** Logical CPUs to bind to. */
  readonly cpus: number[];
  /** Physical cores among them, which is the number of compute threads that pays; at least 1. */
  readonly cores: number;
}

/** Logical CPUs on which this program may run, ascending. */
export function allowedCpus(): number[] {
  return host.allowedCpus();
}

/** Physical cores that this process may use, by their lowest logical CPU. At least one. */
export function physicalCores(cpus: readonly number[] = allowedCpus(), sysRoot = '/sys'): PhysicalCore[] {
  const cores = new Map<string, number[]>();
  for (const cpu of cpus) {
    const topology = `${sysRoot}/devices/system/cpu/cpu${cpu}/topology`;
    const id = host.readText(`${topology}/core_id`);
    const socket = host.readText(`${topology}/physical_package_id`);
    // Without this information (not Linux, or a sandbox) every logical CPU is taken for a core.
    const key = id === null || socket === null ? `cpu ${cpu}` : `${socket}/${id}`;
    const siblings = cores.get(key);
    if (siblings) siblings.push(cpu);
    else cores.set(key, [cpu]);
  }
  const all = [...cores.values()];
  return all.slice(0, Math.max(1, Math.min(all.length, Math.ceil(cpuQuota(sysRoot)))));
}

/** CPUs' worth of time that the control group grants, or Infinity. */
function cpuQuota(sysRoot: string): number {
  const [quota, period] = (host.readText(`${sysRoot}/fs/cgroup/cpu.max`) ?? 'max').split(' ');
  const cpus = Number(quota) / Number(period);
  return Number.isFinite(cpus) && cpus > 0 ? cpus : Number.POSITIVE_INFINITY;
}

/**
 * Divides cores among `count` replicas. Every replica gets the same number of whole cores, because the slowest sets the
 * pace of a synchronous step; cores left over serve the input pipeline. With more replicas than cores, hardware threads are
 * given out singly, and only when those are used up does a second replica get the same one.
 */
export function divideCores(cores: readonly PhysicalCore[], count: number): CoreShare[] {
  const each = Math.floor(cores.length / count);
  if (each >= 1) {
    return Array.from({ length: count }, (_, i) => ({
      cpus: cores.slice(i * each, (i + 1) * each).flat(),
      cores: each,
    }));
  }
  // First hardware thread of every core, then the second of every core, and so on.
  const widest = Math.max(...cores.map((core) => core.length));
  const singles = Array.from({ length: widest }, (_, sibling) =>
    cores.flatMap((core) => core.slice(sibling, sibling + 1)),
  ).flat();
  return Array.from({ length: count }, (_, i) => ({ cpus: [singles[i % singles.length] as number], cores: 1 }));
}
