/**
 * What an optimizer's loop is, in plain TypeScript: its twin in assembly/updates/ computes the same bits with SIMD. `Math.fround` after
 * every operation rounds as f32 does.
 */

/**
 * One pass: sums the replicas' gradients in order, scales, decays, updates weights and slots in place. All arrays have one length.
 * @param numbers what the loop's file lists, rounded to f32 here
 * @returns whether every summed gradient was finite
 */
export type Update = (
  weights: Float32Array,
  slots: readonly Float32Array[],
  gradients: readonly Float32Array[],
  numbers: readonly number[],
) => boolean;

export const f32 = Math.fround;

/** Element `i` of the sum over `sources`, in order. */
export function sumAt(sources: readonly Float32Array[], i: number): number {
  let sum = sources[0]![i]!;
  for (let source = 1; source < sources.length; source++) sum = f32(sum + sources[source]![i]!);
  return sum;
}
