/**
 * How values of variables on replicas are combined: tf.distribute's VariableSynchronization and VariableAggregation.
 *
 * They name what happens; `ReplicaContext` does it. Trainable variables are ON_WRITE here (every replica applies the same
 * reduced gradient), statistics of batch norm are ON_READ with MEAN: each replica has its own until somebody reads or saves.
 */

/** tf.VariableSynchronization: when replicas' copies of a variable are made equal. */
export const VariableSynchronization = {
  /** ON_WRITE for trainable variables. */
  AUTO: 'AUTO',
  /** Not synchronised at all; no strategy here supports it. */
  NONE: 'NONE',
  /** The same value everywhere, always. */
  ON_WRITE: 'ON_WRITE',
  /** Per replica, non-trainable, combined when read or saved. */
  ON_READ: 'ON_READ',
} as const;
export type VariableSynchronization = (typeof VariableSynchronization)[keyof typeof VariableSynchronization];

/** tf.VariableAggregation: how replicas' values of one variable become one. */
export const VariableAggregation = {
  NONE: 'NONE',
  SUM: 'SUM',
  MEAN: 'MEAN',
  ONLY_FIRST_REPLICA: 'ONLY_FIRST_REPLICA',
} as const;
export type VariableAggregation = (typeof VariableAggregation)[keyof typeof VariableAggregation];

/**
 * Upstream's checks of a variable's modes under a mirrored strategy.
 * @returns whether replicas hold the same value always ('mirrored') or each its own until it is read ('on-read').
 * @throws RangeError with upstream's texts.
 */
export function checkVariableModes(
  name: string,
  synchronization: VariableSynchronization,
  aggregation: VariableAggregation,
): 'mirrored' | 'on-read' {
  if (synchronization === VariableSynchronization.NONE) {
    throw new RangeError(
      '`NONE` variable synchronization mode is not supported with `Mirrored` distribution strategy. Please change the ' +
        `\`synchronization\` for variable: ${name}`,
    );
  }
  if (!(synchronization in VariableSynchronization)) {
    throw new RangeError(`Invalid variable synchronization mode: ${synchronization} for variable: ${name}`);
  }
  if (!(aggregation in VariableAggregation)) {
    throw new RangeError(`Invalid variable aggregation mode: ${aggregation} for variable: ${name}`);
  }
  return synchronization === VariableSynchronization.ON_READ ? 'on-read' : 'mirrored';
}
