/** What is said at the end of a run that waited for its input: more threads would have helped, and nobody would know. */

/** Worth a remark: so long, and such a part of training. */
const SHORTEST_MS = 2_000;
const SMALLEST_PART = 0.05;

/** @param replica milliseconds that training took, and that it waited for input of these @returns null where that was little */
export function inputRemark({ trainMs, waitMs }: { readonly trainMs: number; readonly waitMs: number }): string | null {
  if (waitMs < SHORTEST_MS || waitMs < SMALLEST_PART * trainMs) return null;
  const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
  return (
    `Training waited for input for ${seconds(waitMs)} of ${seconds(trainMs)}: more --datasets_num_private_threads or ` +
    '--datasets_num_parallel_batches may help, or smaller pictures on disk.'
  );
}
