/** tf.distribute.ReduceOp: how values of replicas become one. */
export const ReduceOp = { SUM: 'SUM', MEAN: 'MEAN' } as const;
export type ReduceOp = (typeof ReduceOp)[keyof typeof ReduceOp];

/** @throws RangeError with upstream's text if `op` is neither SUM nor MEAN. */
export function checkReduceOp(op: unknown): asserts op is ReduceOp {
  if (op !== ReduceOp.SUM && op !== ReduceOp.MEAN) {
    throw new RangeError('`reduce_op` must be Reduce.SUM or Reduce.MEAN.');
  }
}
