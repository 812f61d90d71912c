/**
 * For shared-update.test.ts: programs that train with `context.optimizer()` and look at their tensors as any user may. Each is written
 * for any engine: a replica runs it distributed, the test runs it alone on TensorFlow.js' `cpu`.
 */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import type { ReplicaContext } from '../replica/replica-context.js';
import type { OptimizerOptions } from '../trainer/optimizer-options.js';

export interface UpdateTask {
  readonly scene: string;
  readonly kind?: string;
  readonly steps?: number;
  readonly options?: { clip?: OptimizerOptions['clip']; accumulateSteps?: number; schedule?: boolean };
}

/** How a program gets its optimizer: distributed, or as it is. */
export type Distribute = <O extends tf.Optimizer>(optimizer: O, options?: OptimizerOptions) => O;

export const OPTIMIZERS: Readonly<Record<string, () => tf.Optimizer>> = {
  sgd: () => tf.train.sgd(0.1),
  momentum: () => tf.train.momentum(0.05, 0.9),
  nesterov: () => tf.train.momentum(0.05, 0.9, true),
  adam: () => tf.train.adam(0.02),
  rmsprop: () => tf.train.rmsprop(0.01, 0.9, 0.5),
  centered: () => tf.train.rmsprop(0.01, 0.9, 0.5, undefined, true),
  adagrad: () => tf.train.adagrad(0.1),
};

/** Numbers that look random, the same everywhere. */
const numbers = (length: number, seed: number) => Float32Array.from({ length }, (_, i) => Math.sin(1 + i * seed));

/** A network of two layers and its loss over a batch of its own for every step. */
export function network() {
  const kernel = tf.variable(tf.tensor2d(numbers(12, 3.1), [4, 3]), true, 'kernel');
  const bias = tf.variable(tf.zeros([3]), true, 'bias');
  const head = tf.variable(tf.tensor2d(numbers(6, 1.7), [3, 2]), true, 'head');
  const loss = (step: number) => () => {
    const x = tf.tensor2d(numbers(20, 2.3 + step), [5, 4]);
    const y = tf.tensor2d(numbers(10, 1.3 + step), [5, 2]);
    return tf.losses.meanSquaredError(y, tf.matMul(tf.tanh(tf.add(tf.matMul(x, kernel), bias)), head)) as tf.Scalar;
  };
  return { kernel, bias, head, variables: [kernel, bias, head], loss };
}

const valuesOf = (tensors: readonly tf.Tensor[]) => tensors.map((tensor) => [...tensor.dataSync()]);
const slotsOf = async (optimizer: tf.Optimizer) =>
  (await optimizer.getWeights()).map(({ name, tensor }) => ({ name, values: [...tensor.dataSync()] }));

export interface UpdateResult {
  readonly weights: number[][];
  readonly slots?: { name: string; values: number[] }[];
  readonly seen?: unknown;
  /** Whether the variables are views of memory that replicas share. */
  readonly isShared?: boolean;
}

export const SCENES: Readonly<Record<string, (distribute: Distribute, task: UpdateTask) => Promise<UpdateResult>>> = {
  /** Plain steps; weights and slots at the end. */
  train: async (distribute, { kind = 'adam', steps = 20, options: { schedule, ...rest } = {} }) => {
    const { variables, loss } = network();
    const learningRate = (updates: number) => 0.1 / (1 + updates);
    const options = schedule ? { ...rest, learningRate } : rest;
    const optimizer = distribute((OPTIMIZERS[kind] as () => tf.Optimizer)(), options);
    for (let step = 0; step < steps; step++) optimizer.minimize(loss(step), false, variables);
    return { weights: valuesOf(variables), slots: await slotsOf(optimizer) };
  },

  /** Whatever was made of a variable before a step is as it was, after it. */
  kept: async (distribute) => {
    const { variables, kernel, loss } = network();
    const optimizer = distribute(tf.train.adam(0.1));
    for (let step = 0; step < 3; step++) optimizer.minimize(loss(step), false, variables);
    const kept = {
      clone: tf.clone(kernel),
      reshaped: tf.reshape(kernel, [12]),
      slice: tf.slice(kernel, [1, 0], [2, 3]),
      sum: tf.add(kernel, 0),
      data: kernel.dataSync(),
      promised: await kernel.data(),
    };
    const before = valuesOf([kernel]);
    const assigned = tf.clone(kernel);
    kernel.assign(tf.add(kernel, 1));
    for (let step = 3; step < 6; step++) optimizer.minimize(loss(step), false, variables);
    const after = { ...kept, assigned };
    return {
      weights: valuesOf(variables),
      seen: [before, Object.values(after).map((value) => [...(value instanceof tf.Tensor ? value.dataSync() : value)])],
    };
  },

  /** Another optimizer in between, a loss that reaches less, and a variable that is trained later. */
  mixed: async (distribute) => {
    const { variables, kernel, bias, head, loss } = network();
    const first = distribute(tf.train.momentum(0.05, 0.9));
    const second = distribute(tf.train.adagrad(0.05));
    for (let step = 0; step < 12; step++) {
      first.minimize(loss(step), false, variables);
      if (step % 3 === 1) second.minimize(loss(step), false, [bias, head]);
      if (step % 4 === 2) first.minimize(() => tf.sum(tf.square(kernel)) as tf.Scalar, false, variables);
    }
    return { weights: valuesOf(variables), slots: await slotsOf(first) };
  },

  /** Interrupted, saved as a user saves it, and gone on with in another optimizer. */
  resumed: async (distribute, { kind = 'adam' }) => {
    const { variables, loss } = network();
    const make = () => distribute((OPTIMIZERS[kind] as () => tf.Optimizer)());
    const first = make();
    for (let step = 0; step < 5; step++) first.minimize(loss(step), false, variables);
    const saved = (await first.getWeights()).map(({ name, tensor }) => ({ name, tensor: tf.clone(tensor) }));
    const weights = variables.map((variable) => tf.clone(variable));
    // Goes another way, which must not be seen in what was saved.
    for (let step = 20; step < 23; step++) first.minimize(loss(step), false, variables);
    for (const [i, variable] of variables.entries()) variable.assign(weights[i] as tf.Tensor);
    const second = make();
    await second.setWeights(saved);
    for (let step = 5; step < 10; step++) second.minimize(loss(step), false, variables);
    return { weights: valuesOf(variables), slots: await slotsOf(second) };
  },

  /** model.fit, which a backend may record; frozen for a while. */
  fit: async (distribute, { kind = 'adam' }) => {
    const model = tfl.sequential({
      layers: [
        tfl.layers.dense({ inputShape: [4], units: 3, activation: 'tanh', name: 'hidden' }),
        tfl.layers.dense({ units: 2, name: 'out' }),
      ],
    });
    model.setWeights(
      [[4, 3], [3], [3, 2], [2]].map((shape, i) => tf.tensor(numbers(tf.util.sizeFromShape(shape), 1 + i), shape)),
    );
    const optimizer = distribute((OPTIMIZERS[kind] as () => tf.Optimizer)());
    model.compile({ optimizer, loss: 'meanSquaredError' });
    const x = tf.tensor2d(numbers(160, 2.3), [40, 4]);
    const y = tf.tensor2d(numbers(80, 1.3), [40, 2]);
    const fit = () => model.fit(x, y, { epochs: 4, batchSize: 8, shuffle: false, verbose: 0 });
    const losses = [...((await fit()).history.loss as number[])];
    const best = model.getWeights().map((weight) => weight.clone());
    losses.push(...((await fit()).history.loss as number[]));
    model.setWeights(best);
    losses.push(...((await fit()).history.loss as number[]));
    return { weights: valuesOf(model.getWeights()), slots: await slotsOf(optimizer), seen: losses };
  },

  /** As many tensors after 40 steps as after 10. */
  steady: async (distribute) => {
    const { variables, loss } = network();
    const optimizer = distribute(tf.train.adam(0.01), { accumulateSteps: 2, clip: { value: 1 } });
    const counts: number[] = [];
    for (let step = 0; step < 40; step++) {
      optimizer.minimize(loss(step), false, variables);
      if (step === 9 || step === 39) counts.push(tf.memory().numTensors);
    }
    return { weights: [], seen: counts };
  },

  /** Whose slots are other ones on replica 1. */
  torn: async (distribute, { kind }) => {
    const { variables, loss } = network();
    const optimizer = distribute(tf.train.adam(0.1));
    for (let step = 0; step < 3; step++) optimizer.minimize(loss(step), false, variables);
    const weights = await optimizer.getWeights();
    // The number of updates comes first; m and v behind it.
    const factor = kind === 'iterations' ? [3, 1] : [1, 2];
    const isOdd = (globalThis as { lockstepTestReplica?: number }).lockstepTestReplica === 1;
    if (isOdd)
      await optimizer.setWeights(
        weights.map(({ name, tensor }) => ({
          name,
          tensor: tf.mul(tensor, factor[name === 'iter' ? 0 : 1] as number),
        })),
      );
    try {
      optimizer.minimize(loss(3), false, variables);
      return { weights: valuesOf(variables), seen: 'taken' };
    } catch (error) {
      return { weights: valuesOf(variables), seen: (error as Error).message };
    }
  },
};

/** @returns as the scene; `isShared` of the first variable. */
export default async function replica(context: ReplicaContext, task: UpdateTask): Promise<UpdateResult> {
  (globalThis as { lockstepTestReplica?: number }).lockstepTestReplica = context.replicaIdInSyncGroup;
  const scene = SCENES[task.scene] as (distribute: Distribute, task: UpdateTask) => Promise<UpdateResult>;
  const result = await scene((optimizer, options) => context.optimizer(optimizer, options), task);
  const backend = tf.backend() as unknown as { unresolved?(dataId: object): { isShared: boolean } };
  const [variable] = Object.values(tf.engine().registeredVariables).filter(
    ({ trainable, size }) => trainable && size > 1,
  );
  return { ...result, isShared: variable ? (backend.unresolved?.(variable.dataId).isShared ?? false) : false };
}
