/**
 * Mirroring: all replicas begin with replica 0's values, after checking that they hold the same variables.
 *
 * The check comes first because a broadcast into variables of other shapes would fail late and name nothing. Statistics
 * that live per replica (moving averages of batch norm) are combined by their mean when somebody reads or saves them.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import type { Communicator } from '../communicator/communicator.js';

/** A model, or variables in an order that is the same on all replicas. */
export type MirrorTarget = LayersModel | readonly tf.Variable[];

/** What mirroring needs of a replica. */
export interface MirrorContext {
  readonly communicator: Communicator;
  readonly replicas: number;
  /** 'replica': for messages. */
  readonly noun?: string;
  /** Ordered values of all replicas. */
  gather<T>(value: T): T[];
}

/** The variables of a model in TensorFlow.js' order, non-trainable ones included; a list as it is. */
export function variablesOf(target: MirrorTarget): tf.Variable[] {
  if (Array.isArray(target)) return [...target];
  const { weights } = target as LayersModel;
  // LayerVariable.read() hands out the tf.Variable itself, typed as the tensor that it also is.
  return weights.map((weight) => weight.read() as tf.Variable);
}

/**
 * Throws unless every replica has the same number of variables with the same shapes and dtypes.
 * The message names the first difference; all replicas throw the same one.
 */
export function checkSameVariables(variables: readonly tf.Variable[], context: MirrorContext): void {
  const signature = variables.map(({ name, shape, dtype }) => ({ name, shape, dtype: dtype as string }));
  const signatures = context.gather(signature);
  const [first = []] = signatures;
  for (const [replica, other] of signatures.entries()) {
    if (other.length !== first.length) {
      throw new Error(
        `Replica ${replica} has ${other.length} variables, replica 0 has ${first.length}.\n` +
          'help: build the same model on every replica; only its initial values may differ.',
      );
    }
    for (const [i, mine] of other.entries()) {
      const theirs = first[i] as (typeof first)[number];
      if (mine.dtype === theirs.dtype && tf.util.arraysEqual(mine.shape, theirs.shape)) continue;
      throw new Error(
        `Variable ${i} differs: '${mine.name}' of replica ${replica} is ${mine.dtype} [${mine.shape}], ` +
          `'${theirs.name}' of replica 0 is ${theirs.dtype} [${theirs.shape}].\n` +
          'help: build the same model on every replica; only its initial values may differ.',
      );
    }
  }
}

/** Copies replica 0's values into every replica's variables. Collective. */
export function mirrorVariables(target: MirrorTarget, context: MirrorContext): void {
  const variables = variablesOf(target);
  checkSameVariables(variables, context);
  for (const variable of variables) {
    const values = numericCopy(variable);
    context.communicator.broadcast(values, 0);
    if (context.communicator.rank !== 0) assignValues(variable, values);
  }
}

/**
 * Sets every replica's variables to the mean over replicas: how a variable with synchronization ON_READ and aggregation
 * MEAN is read or saved. Collective; for float32 variables.
 */
export function averageVariables(target: MirrorTarget, context: MirrorContext): void {
  const variables = variablesOf(target);
  checkSameVariables(variables, context);
  if (context.replicas === 1) return;
  for (const variable of variables) {
    if (variable.dtype !== 'float32') {
      throw new TypeError(`Variable '${variable.name}' is ${variable.dtype}; only float32 variables have a mean.`);
    }
    // In f64 the mean of equal numbers is that number: averaging a second time changes no bit.
    const sums = Float64Array.from(numericCopy(variable));
    context.communicator.allReduce(sums, 'sum');
    assignValues(
      variable,
      Float32Array.from(sums, (sum) => sum / context.replicas),
    );
  }
}

function numericCopy(variable: tf.Variable): Float32Array | Int32Array | Uint8Array {
  if (variable.dtype !== 'float32' && variable.dtype !== 'int32' && variable.dtype !== 'bool') {
    throw new TypeError(`Variable '${variable.name}' is ${variable.dtype}; replicas mirror float32, int32 and bool.`);
  }
  // A backend may hand out its own memory.
  return (variable.dataSync() as Float32Array | Int32Array | Uint8Array).slice();
}

function assignValues(variable: tf.Variable, values: Float32Array | Int32Array | Uint8Array): void {
  const tensor = tf.tensor(values, variable.shape, variable.dtype as 'float32');
  variable.assign(tensor);
  tensor.dispose();
}
