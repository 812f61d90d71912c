// In which order the jobs of a test run are done, a few at once: the longest first, so that the end does not wait for one that began
// last; and never two at once of those that are about limits of time.

/**
 * Which jobs take long, the longest first: their names' ends. The others follow in the order in which they are given. A job that is not
 * here, or has become faster, costs some seconds at the end of a run and nothing else.
 */
export const LONG = [
  'distribute/mpi/mpi-communicator.test.js',
  'lockstep/gpu-run.test.js',
  'check-docs',
  'lockstep/commands/two-hosts.test.js',
  'distribute/workers/multi-worker.test.js',
  'lockstep/gpu.test.js',
  'distribute/testing/trainer.test.js',
  'official/resnet/cifar10-main.test.js',
  'lockstep/commands/faults.test.js',
  'scripts/packed.test.mjs',
  'lockstep/commands/weights.test.js',
  'official/resnet/copies.test.js',
  'lockstep/commands/launch.test.js',
  'distribute/workers/mirror-workers.test.js',
  'official/resnet/distributed-run.test.js',
  'lockstep/commands/workers.test.js',
  'onednn/tfjs/fit-program.test.js',
  'distribute/replica/faults.test.js',
  'lockstep/commands/start.test.js',
  'distribute/cross-device-ops/cross-device-ops.test.js',
  'distribute/communicator/shared-memory-communicator.test.js',
  'conformance',
  'conformance, every tensor in a blocked layout',
  'conformance, every tensor in bf16',
];

/**
 * Jobs in which processes or threads stop, die or come late, and others have to find out within a limit: their names' ends. They mostly
 * wait, so that one of them leaves a core to the job beside it; two of them would take the cores from each other's processes just when
 * limits run.
 */
export const KEEPS_TIME = [
  'distribute/mpi/mpi-communicator.test.js',
  'distribute/replica/faults.test.js',
  'distribute/workers/multi-worker.test.js',
  'lockstep/commands/faults.test.js',
  'lockstep/commands/launch.test.js',
  'lockstep/commands/slurm.test.js',
  'lockstep/commands/stopping.test.js',
  'lockstep/commands/two-hosts.test.js',
  'lockstep/commands/workers.test.js',
];

const isIn = (names, name) => names.some((end) => name === end || name.endsWith(`/${end}`));

/** @param jobs `{ name }`, in any order. @returns the same with what this file knows of them, in the order in which to begin them. */
export function inOrder(jobs, { long = LONG, keepsTime = KEEPS_TIME } = {}) {
  const place = ({ name }) => {
    const found = long.findIndex((end) => isIn([end], name));
    return found < 0 ? long.length : found;
  };
  return jobs
    .map((job) => ({ ...job, keepsTime: isIn(keepsTime, job.name) }))
    .sort((left, right) => place(left) - place(right));
}

/**
 * Does all jobs, `width` at once, never two at once that `keepsTime`.
 *
 * @param jobs `{ run, keepsTime }`; `run` is called without arguments. The first that throws ends the whole.
 */
export async function runJobs(jobs, width) {
  const waiting = [...jobs];
  const running = new Set();
  while (waiting.length > 0 || running.size > 0) {
    const isKept = [...running].some(({ keepsTime }) => keepsTime);
    const next = running.size < width ? waiting.findIndex(({ keepsTime }) => !(keepsTime && isKept)) : -1;
    if (next >= 0) {
      const [{ run, keepsTime }] = waiting.splice(next, 1);
      const entry = { keepsTime };
      running.add(entry);
      entry.end = run().finally(() => running.delete(entry));
    } else await Promise.race([...running].map(({ end }) => end));
  }
}
