/**
 * Mirroring: all replicas begin with replica 0's values, after checking that they hold the same variables.
 *
 * The check comes first because a broadcast into variables of other shapes would fail late and name nothing. Statistics
 * that live per replica (moving averages of batch norm) are combined by their mean when somebody reads or saves them.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import type { Communicator } from '../communicator/communicator.js';
import { readNow } from '../devices/host-access.js';
import { hashNumbers, hashText, type Numbers } from './fingerprint.js';

/** A model, or variables in an order that is the same on all replicas. */
export type MirrorTarget = LayersModel | readonly tf.Variable[];

/** What mirroring needs of a replica. */
export interface MirrorContext {
  readonly communicator: Communicator;
  readonly replicas: number;
  /** Ordered values of all replicas. */
  gather<T>(value: T): T[];
}

/** The variables of a model in TensorFlow.js' order, non-trainable ones included; a list as it is. */
export function variablesOf(target: MirrorTarget): tf.Variable[] {
  if (Array.isArray(target)) {
    for (const [i, variable] of target.entries()) {
      if (variable instanceof tf.Variable) continue;
      throw new TypeError(
        `Entry ${i} of the list is no tf.Variable.\nhelp: give a model, or variables; a layer's weight hands its own out by read().`,
      );
    }
    return [...target];
  }
  const { weights } = (target ?? {}) as LayersModel;
  if (!Array.isArray(weights)) throw new TypeError(`A model or a list of variables is needed, got ${typeof target}.`);
  if (weights.length === 0) {
    throw new Error(
      'The model has no weights yet.\nhelp: give its first layer an inputShape, or call model.build(), before it is mirrored.',
    );
  }
  // LayerVariable.read() hands out the tf.Variable itself, typed as the tensor that it also is.
  return weights.map((weight) => weight.read() as tf.Variable);
}

/** A variable, as replicas tell each other of it. */
export interface Signature {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
  /** What replicas have agreed to call it (mirrored-variables.ts); −1 if nothing yet. */
  readonly number?: number;
}

/**
 * Throws unless every replica has the same number of variables with the same shapes and dtypes; and the same names, where names
 * can be compared: a replica that has made variables of its own numbers the next ones differently.
 * The message names the first difference; all replicas throw the same one.
 */
export function checkSameVariables(variables: readonly tf.Variable[], context: MirrorContext): void {
  if (context.replicas === 1) return;
  const signatures = context.gather({ all: registryHash(), list: variables.map(signatureOf) });
  const isNamed = signatures.every(({ all }) => all === signatures[0]?.all);
  compareSignatures(
    signatures.map(({ list }) => list),
    isNamed,
  );
}

/** @throws Error naming the first difference. @param isNamed Whether equal variables have equal names. */
export function compareSignatures(signatures: readonly (readonly Signature[])[], isNamed: boolean): void {
  const [first = []] = signatures;
  for (const [replica, list] of signatures.entries()) {
    if (list.length !== first.length) {
      throw new Error(
        `Replica ${replica} has ${list.length} variables, replica 0 has ${first.length}.\n` +
          'help: build the same model on every replica; only its initial values may differ.',
      );
    }
    for (const [i, mine] of list.entries()) {
      const theirs = first[i] as Signature;
      const isSame = mine.dtype === theirs.dtype && tf.util.arraysEqual([...mine.shape], [...theirs.shape]);
      const [number, other = -1] = [mine.number ?? -1, theirs.number];
      const isOne = number >= 0 || other >= 0 ? number === other : !isNamed || mine.name === theirs.name;
      if (isSame && isOne) continue;
      throw new Error(
        `Variable ${i} differs: '${mine.name}' of replica ${replica} is ${mine.dtype} [${mine.shape}], ` +
          `'${theirs.name}' of replica 0 is ${theirs.dtype} [${theirs.shape}].\nhelp: ${
            isSame
              ? 'give the same variables in the same order on every replica.'
              : 'build the same model on every replica; only its initial values may differ.'
          }`,
      );
    }
  }
}

export function signatureOf({ name, shape, dtype }: tf.Variable): Signature {
  return { name, shape, dtype };
}

/** Of the names of all variables that this replica has: where it is the same on all, a name means the same on all. */
export function registryHash(): number {
  return hashText(Object.keys(tf.engine().registeredVariables).join('\n'));
}

/** Copies replica 0's values into every replica's variables. Collective. */
export function mirrorVariables(target: MirrorTarget, context: MirrorContext): void {
  const variables = variablesOf(target);
  checkSameVariables(variables, context);
  copyFromFirst(variables, context);
}

/**
 * Replica 0's values for everybody, of variables that are known to be the same. What is equal already is neither sent nor
 * assigned: a view stays a view. Collective.
 * @returns the variables whose values differed.
 */
export function copyFromFirst(variables: readonly tf.Variable[], context: MirrorContext): tf.Variable[] {
  const { communicator, replicas } = context;
  if (replicas === 1 || variables.length === 0) return [];
  const hashes = Int32Array.from(variables, (variable) => hashNumbers(valuesOf(variable)));
  const all = new Int32Array(replicas * hashes.length);
  communicator.allGather(hashes, all);
  const different = variables.filter((_, i) =>
    Array.from({ length: replicas }, (_, replica) => all[replica * hashes.length + i]).some((hash) => hash !== all[i]),
  );
  for (const variable of different) {
    // A backend may hand out its own memory.
    const values = valuesOf(variable).slice();
    communicator.broadcast(values, 0);
    if (communicator.rank !== 0) assignValues(variable, values);
  }
  return different;
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
    const own = valuesOf(variable);
    const sums = Float64Array.from(own);
    context.communicator.allReduce(sums, 'sum');
    const means = Float32Array.from(sums, (sum) => sum / context.replicas);
    // A mean that is there already is not assigned: a view stays a view.
    if (means.some((mean, i) => !Object.is(mean, own[i]))) assignValues(variable, means);
  }
}

/** The values where they are: to be read at once. */
export function valuesOf(variable: tf.Variable): Numbers {
  if (!isNumeric(variable)) {
    throw new TypeError(`Variable '${variable.name}' is ${variable.dtype}; replicas mirror float32, int32 and bool.`);
  }
  return readNow(variable);
}

/** Whether replicas can mirror it. */
export function isNumeric({ dtype }: tf.Variable): boolean {
  return dtype === 'float32' || dtype === 'int32' || dtype === 'bool';
}

function assignValues(variable: tf.Variable, values: Numbers): void {
  const tensor = tf.tensor(values, variable.shape, variable.dtype as 'float32');
  variable.assign(tensor);
  tensor.dispose();
}
