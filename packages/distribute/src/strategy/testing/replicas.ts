/**
 * Replica functions for the tests of this package: one module, many scenes, chosen by `args.scene`.
 *
 * It is not part of the package's interface. Models are tiny, because TensorFlow.js' `cpu` backend runs them.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import { threadCpus } from '../../host/affinity.js';
import type { ReplicaContext } from '../../replica/replica-context.js';
import { soloContext } from '../../replica/solo-context.js';
import type { LossScaleOption } from '../../trainer/loss-scale.js';

export interface SceneArgs {
  readonly scene: string;
  readonly [name: string]: unknown;
}

/** Runs `args.scene`. */
export default async function scenes(context: ReplicaContext, args: SceneArgs): Promise<unknown> {
  const scene = SCENES[args.scene];
  if (!scene) throw new Error(`No scene ${args.scene}.`);
  return await scene(context, args);
}

type Scene = (context: ReplicaContext, args: SceneArgs) => unknown;

const FEATURES = 6;
const CLASSES = 3;

/** A repeatable stream of numbers in [−1, 1): a linear congruential generator, so that tests can compute it again. */
export function numbers(count: number, seed: number): Float32Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/** Batch `step` of replica `replica`. */
export function batch(step: number, replica: number, size = 4): { x: tf.Tensor2D; labels: tf.Tensor2D } {
  const x = tf.tensor2d(numbers(size * FEATURES, 1 + step * 100 + replica), [size, FEATURES]);
  const labels = Array.from({ length: size }, (_, i) => (step + replica * 2 + i) % CLASSES);
  const oneHot = Float32Array.from({ length: size * CLASSES }, (_, i) =>
    labels[Math.floor(i / CLASSES)] === i % CLASSES ? 1 : 0,
  );
  return { x, labels: tf.tensor2d(oneHot, [size, CLASSES]) };
}

export interface TinyModel {
  readonly trainable: tf.Variable[];
  readonly statistics: tf.Variable[];
  loss(x: tf.Tensor2D, labels: tf.Tensor2D): tf.Scalar;
  dispose(): void;
}

/** Two dense layers, written by hand, with or without batch norm between them. `seed` makes replicas differ at first. */
export function tinyModel(seed: number, withBatchNorm = false): TinyModel {
  const hidden = 5;
  const variable = (values: Float32Array, shape: number[], trainable = true) =>
    tf.variable(tf.tensor(values, shape), trainable);
  const w1 = variable(numbers(FEATURES * hidden, seed), [FEATURES, hidden]);
  const b1 = variable(numbers(hidden, seed + 1), [hidden]);
  const w2 = variable(numbers(hidden * CLASSES, seed + 2), [hidden, CLASSES]);
  const gamma = variable(numbers(hidden, seed + 3), [hidden]);
  const beta = variable(numbers(hidden, seed + 4), [hidden]);
  const movingMean = variable(new Float32Array(hidden), [hidden], false);
  const trainable = withBatchNorm ? [w1, b1, gamma, beta, w2] : [w1, b1, w2];
  return {
    trainable,
    statistics: [movingMean],
    loss: (x, labels) =>
      tf.tidy(() => {
        let h: tf.Tensor = tf.add(tf.matMul(x, w1 as tf.Tensor2D), b1);
        if (withBatchNorm) {
          const { mean, variance } = tf.moments(h, 0);
          movingMean.assign(tf.add(tf.mul(movingMean, 0.9), tf.mul(mean, 0.1)));
          h = tf.add(tf.mul(tf.div(tf.sub(h, mean), tf.sqrt(tf.add(variance, 1e-3))), gamma), beta);
        }
        h = tf.tanh(h);
        const logits = tf.matMul(h as tf.Tensor2D, w2 as tf.Tensor2D);
        return tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits), labels), 1))) as tf.Scalar;
      }),
    dispose: () => tf.dispose([w1, b1, w2, gamma, beta, movingMean]),
  };
}

/** Also where they are on a device that cannot be read at once. */
function valuesOf(variables: readonly tf.Tensor[]): Promise<number[][]> {
  return Promise.all(variables.map(async (variable) => Array.from(await variable.data())));
}

function smallLayersModel(seed: number): tfl.Sequential {
  const initializer = (offset: number) =>
    tfl.initializers.randomUniform({ minval: -0.5, maxval: 0.5, seed: seed + offset });
  return tfl.sequential({
    layers: [
      tfl.layers.dense({ inputShape: [FEATURES], units: 5, activation: 'tanh', kernelInitializer: initializer(1) }),
      tfl.layers.dense({ units: CLASSES, activation: 'softmax', kernelInitializer: initializer(2) }),
    ],
  });
}

const SCENES: Record<string, Scene> = {
  identity: (context, args) => ({
    replica: context.replicaIdInSyncGroup,
    replicas: context.numReplicasInSync,
    device: context.device.name,
    threads: context.threads,
    backend: tf.getBackend(),
    cpus: threadCpus(),
    value: args.value,
  }),

  allReduce: (context, args) => {
    const sizes = args.sizes as number[];
    const tensors = sizes.map((size, i) => tf.tensor1d(numbers(size, 10 * i + context.replicaIdInSyncGroup)));
    return context.allReduce(args.op as 'SUM' | 'MEAN', tensors).map((tensor) => Array.from(tensor.dataSync()));
  },

  /** Each replica by itself, the first one longer: nobody waits for it, and nothing is summed. */
  solo: async (context) => {
    const own = soloContext(context);
    const factor = context.replicaIdInSyncGroup + 1;
    const weight = tf.variable(tf.scalar(1));
    const trainer = own.trainer([weight], { optimizer: { kind: 'sgd' } });
    const steps = factor === 1 ? 3 : 1;
    for (let i = 0; i < steps; i++) await trainer.step(() => tf.mul(weight, factor) as tf.Scalar, 0.25);
    own.communicator.barrier();
    const [sum] = own.allReduce('SUM', [tf.scalar(factor)]) as [tf.Tensor];
    return [own.numReplicasInSync, (await weight.data())[0], (await sum.data())[0]];
  },

  /** Steps with a gradient that only the last replica has, and that overflows f32 when it is multiplied by 4096 or more. */
  lossScale: async (context, args) => {
    const isLast = context.replicaIdInSyncGroup === context.numReplicasInSync - 1;
    const weight = tf.variable(tf.tensor1d([1, 1]));
    const trainer = context.trainer([weight], {
      optimizer: { kind: 'momentum', momentum: 0 },
      lossScale: args.lossScale as LossScaleOption,
      skipNonFinite: args.skipNonFinite === true,
    });
    const gradient = tf.tensor1d(isLast ? [1e35, 0] : [0, 0]);
    const results: object[] = [];
    for (let step = 0; step < (args.steps as number); step++) {
      const loss = () => tf.sum(tf.mul(weight, gradient)) as tf.Scalar;
      const { skipped, finite, lossScale } = await trainer.step(loss, 1e-35);
      const slot = trainer.slots.momentum?.[0];
      results.push({ skipped, finite, lossScale, weights: Array.from(trainer.weights), slot });
    }
    return results;
  },

  /** One step that takes so long, in which nobody listens; then, whether to stop. */
  longStep: (context, args) => {
    const end = performance.now() + (args.milliseconds as number);
    while (performance.now() < end);
    return context.shouldStop();
  },

  /** Steps whose loss is not finite on the last replica, and one that is. */
  lossNotFinite: async (context) => {
    const isLast = context.replicaIdInSyncGroup === context.numReplicasInSync - 1;
    const weight = tf.variable(tf.tensor1d([1, 1]));
    const trainer = context.trainer([weight], { optimizer: { kind: 'momentum', momentum: 0.5 } });
    const results: object[] = [];
    for (const factor of [Number.NaN, Number.POSITIVE_INFINITY, 2]) {
      const gradient = tf.tensor1d([isLast ? factor : 2, 2]);
      const loss = () => tf.sum(tf.mul(weight, gradient)) as tf.Scalar;
      const { finite, skipped } = await trainer.step(loss, 0.25);
      results.push({ finite, skipped, weights: Array.from(trainer.weights), slot: trainer.slots.momentum?.[0] });
    }
    return results;
  },

  /** The trainer's weights after some steps, and whether the last steps leaked tensors. */
  train: async (context, args) => {
    const {
      steps,
      learningRate = 0.1,
      batchNorm = false,
      options,
    } = args as never as {
      steps: number;
      learningRate?: number;
      batchNorm?: boolean;
      options: Parameters<ReplicaContext['trainer']>[1];
    };
    const model = tinyModel(7 + context.replicaIdInSyncGroup, batchNorm);
    const trainer = context.trainer(model.trainable, withDecay(options, args.weightDecay as number | undefined));
    const losses: number[] = [];
    const tensors: number[] = [];
    for (let step = 0; step < steps; step++) {
      const { x, labels } = batch(step, context.replicaIdInSyncGroup);
      losses.push((await trainer.step(() => model.loss(x, labels), learningRate)).loss);
      tf.dispose([x, labels]);
      tensors.push(tf.memory().numTensors);
    }
    if (batchNorm) {
      context.averageStatistics(model.statistics);
      const once = await valuesOf(model.statistics);
      context.averageStatistics(model.statistics);
      // Three equal numbers, summed in f32 and divided by three, need not be that number.
      if (JSON.stringify(await valuesOf(model.statistics)) !== JSON.stringify(once))
        throw new Error('the mean of means moved');
    }
    return {
      weights: Array.from(trainer.weights),
      variables: await valuesOf(model.trainable),
      statistics: await valuesOf(model.statistics),
      losses,
      tensors,
      decayLoss: trainer.weightDecayLoss(),
    };
  },

  /** Many small steps, watching memory. */
  endure: async (context, args) => {
    const model = tinyModel(7);
    const trainer = context.trainer(model.trainable, { optimizer: { kind: 'momentum', momentum: 0.9 } });
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const megabytes = () => {
      collect();
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      return (heapUsed + arrayBuffers) / 2 ** 20;
    };
    const tensors: number[] = [];
    const heapMb: number[] = [];
    for (let step = 0; step < (args.steps as number); step++) {
      const { x, labels } = batch(step, context.replicaIdInSyncGroup);
      await trainer.step(() => model.loss(x, labels), 0.01);
      tf.dispose([x, labels]);
      tensors.push(tf.memory().numTensors);
      if (step + 1 === 200 || step + 1 === args.steps) heapMb.push(megabytes());
    }
    return { tensors, heapMb, weights: Array.from(trainer.weights) };
  },

  /** The same steps through context.optimizer(). */
  optimizer: async (context, args) => {
    const { steps, learningRate = 0.1, momentum = 0.9 } = args as never as Record<string, number>;
    const model = tinyModel(7 + context.replicaIdInSyncGroup);
    const optimizer = context.optimizer(tf.train.momentum(learningRate as number, momentum as number));
    for (let step = 0; step < (steps as number); step++) {
      const { x, labels } = batch(step, context.replicaIdInSyncGroup);
      optimizer.minimize(() => model.loss(x, labels), false, model.trainable);
      tf.dispose([x, labels]);
    }
    return { variables: await valuesOf(model.trainable), tensors: tf.memory().numTensors };
  },

  /** model.compile and model.fit, unchanged but for the optimizer and the shard. */
  fit: async (context, args) => {
    const model = smallLayersModel(3 + context.replicaIdInSyncGroup);
    model.compile({
      optimizer: context.optimizer(tf.train.adam(0.02)),
      loss: 'categoricalCrossentropy',
    });
    const { x, labels } = batch(0, 0, args.examples as number);
    const shard = context.shard({ x, labels });
    const history = await model.fit(shard.x, shard.labels, { epochs: 3, batchSize: 4, shuffle: false, verbose: 0 });
    return {
      weights: await valuesOf(model.getWeights()),
      loss: history.history.loss,
      examples: shard.x.shape[0],
    };
  },

  mirror: (context, args) => {
    const rank = context.replicaIdInSyncGroup;
    const shape = (args.shapes as number[][])[rank] as number[];
    const variables = [tf.variable(tf.fill([2], rank + 1)), tf.variable(tf.fill(shape, rank + 1), true, 'odd')];
    if ((args.extra as number | undefined) === rank) variables.push(tf.variable(tf.scalar(1)));
    context.mirror(variables);
    return valuesOf(variables);
  },

  shard: async (context, args) => {
    const n = args.length as number;
    const list = Array.from({ length: n }, (_, i) => i);
    const array = context.shard(list);
    const tensor = Array.from(context.shard(tf.tensor2d(list, [n, 1])).dataSync());
    const iterable = [...context.shard(new Set(list))];
    const stream: number[] = [];
    async function* read() {
      // A replica's stream may be shorter than the others'; steps stay equal.
      const shorter = context.replicaIdInSyncGroup === 1 ? ((args.shorter as number) ?? 0) : 0;
      for (const i of list.slice(0, n - shorter)) yield i;
    }
    for await (const element of context.shard(read())) stream.push(element as number);
    return { array, tensor, iterable, stream };
  },

  merge: (context) => context.merge({ id: context.replicaIdInSyncGroup }, (values) => values.map((value) => value.id)),

  /** Steps until told to stop; every replica must stop at the same step. */
  untilStopped: async (context, args) => {
    const model = tinyModel(1);
    const trainer = context.trainer(model.trainable, { optimizer: { kind: 'sgd' } });
    let steps = 0;
    while (!context.shouldStop()) {
      const { x, labels } = batch(steps, context.replicaIdInSyncGroup);
      await trainer.step(() => model.loss(x, labels), 0.01);
      tf.dispose([x, labels]);
      if (++steps === 3) context.report('running');
      if (steps > 100_000) throw new Error('never told to stop');
      if (args.yield) await new Promise((resolve) => setImmediate(resolve));
    }
    return steps;
  },

  /** In the middle of training, replica `args.culprit` does something it must not. */
  fault: async (context, args) => {
    const isCulprit = context.replicaIdInSyncGroup === args.culprit;
    const model = tinyModel(1);
    const spare = tf.variable(tf.scalar(1));
    const trainer = context.trainer([...model.trainable, spare], { optimizer: { kind: 'sgd' } });
    const limit = isCulprit && args.fault === 'fewer-steps' ? 3 : 6;
    for (let step = 0; step < limit; step++) {
      const { x, labels } = batch(step, context.replicaIdInSyncGroup);
      await trainer.step(() => {
        const isHere = isCulprit && step === 3;
        if (isInBackward(args.fault)) {
          // Recorded first, so backward comes to it last: the packs of all other variables are full by then.
          const trap = tf.customGrad((value) => ({
            value: (value as tf.Tensor).clone(),
            gradFunc: (dy: tf.Tensor) => {
              if (isHere) misbehave(args.fault as string);
              return dy.clone();
            },
          }));
          const trapped = trap(spare);
          return tf.add(model.loss(x, labels), trapped) as tf.Scalar;
        }
        const loss = model.loss(x, labels);
        if (!isHere) return loss;
        switch (args.fault) {
          case 'throw':
            throw new RangeError('the dog ate my batch');
          case 'exit':
            process.exit(3);
            break;
          case 'memory': {
            const hoard: unknown[] = [];
            for (;;) hoard.push(new Array(100_000).fill(hoard.length));
          }
          case 'hang':
            for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
          case 'more-gradients':
            return tf.add(loss, spare) as tf.Scalar;
          default:
        }
        return loss;
      }, 0.01);
      tf.dispose([x, labels]);
    }
    return 'done';
  },

  differentLists: (context) => {
    const tensors = [tf.zeros([2, 3]), tf.zeros([4])];
    if (context.replicaIdInSyncGroup === 1) tensors.pop();
    return context.allReduce('SUM', tensors);
  },

  twice: (context) => {
    const optimizer = context.optimizer(tf.train.sgd(1));
    context.optimizer(optimizer);
  },

  assigned: async (context) => {
    const model = tinyModel(1);
    const trainer = context.trainer(model.trainable, { optimizer: { kind: 'sgd' } });
    (model.trainable[0] as tf.Variable).assign(tf.zeros([FEATURES, 5]));
    const { x, labels } = batch(0, 0);
    await trainer.step(() => model.loss(x, labels), 0.1);
  },

  /** Steps that nobody waits for, the last thing that a replica does. */
  unawaited: (context, args) => {
    const weight = tf.variable(tf.scalar(1));
    const trainer = context.trainer([weight], { optimizer: { kind: 'sgd' } });
    for (const rate of args.rates as number[]) trainer.step(() => tf.square(weight) as tf.Scalar, rate);
    return 'done';
  },

  output: () => {
    console.log('a line on standard output');
    console.error('a line on standard error');
  },
};

const BACKWARD_FAULTS = ['hang in backward', 'loop in backward', 'throw in backward', 'exit in backward'];

function isInBackward(fault: unknown): boolean {
  return BACKWARD_FAULTS.includes(fault as string);
}

/** While the other replicas already sum the packs that this one has filled. */
function misbehave(fault: string): void {
  switch (fault) {
    case 'hang in backward':
      for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
    case 'loop in backward':
      for (;;);
    case 'throw in backward':
      throw new RangeError('the dog ate my gradient');
    case 'exit in backward':
      process.exit(4);
  }
}

function withDecay(
  options: Parameters<ReplicaContext['trainer']>[1],
  rate: number | undefined,
): Parameters<ReplicaContext['trainer']>[1] {
  if (rate === undefined) return options;
  // Weight decay on matrices only, as the run loop leaves out batch norm's vectors.
  return { ...options, weightDecay: { rate, applies: (variable) => variable.shape.length > 1 } };
}
