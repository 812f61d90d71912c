/**
 * For tests: programs whose replicas must stay mirrors, and what users do that would part them. Run on threads and under mpirun.
 * A scene returns plain data; its expectations stand in the tests.
 */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import type { ReplicaContext } from '../../replica/replica-context.js';
import { soloContext } from '../../replica/solo-context.js';

type Scene = (context: ReplicaContext, args: Record<string, unknown>) => unknown;

/** The error's message, or 'taken'. Whatever throws has thrown on all replicas, so that the next collective finds them together. */
async function attempt(action: () => unknown): Promise<string> {
  try {
    await action();
    return 'taken';
  } catch (error) {
    return (error as Error).message;
  }
}

/** Lines that this thread writes to standard error meanwhile. */
function linesDuring(action: () => unknown): string[] {
  const { write } = process.stderr;
  const lines: string[] = [];
  process.stderr.write = ((text: string) => lines.push(text) > 0) as typeof process.stderr.write;
  try {
    action();
  } finally {
    process.stderr.write = write;
  }
  return lines;
}

const numbersOf = (tensors: readonly tf.Tensor[]) => tensors.map((tensor) => Array.from(tensor.dataSync()));

/** What every replica wants its weights to be: another point for each. */
export const targetOf = (replica: number) => [1 + replica, 2 - replica, 3];
export const CLIP_NORM = 1;
export const CLIP_STEPS = 4;

/** tf.variableGrads, then the whole gradient cut to CLIP_NORM, then applyGradients: as TensorFlow.js' users clip. */
function clippedSteps(w: tf.Variable, optimizer: tf.Optimizer, target: readonly number[]): void {
  for (let step = 0; step < CLIP_STEPS; step++) {
    tf.tidy(() => {
      const { grads } = tf.variableGrads(() => tf.sum(tf.square(tf.sub(w, [...target]))) as tf.Scalar, [w]);
      const norm = tf.sqrt(tf.addN(Object.values(grads).map((gradient) => tf.sum(tf.square(gradient)))));
      const scale = tf.minimum(1, tf.div(CLIP_NORM, norm));
      const clipped = Object.entries(grads).map(([name, gradient]) => [name, tf.mul(gradient, scale)]);
      optimizer.applyGradients(Object.fromEntries(clipped));
    });
  }
}

/** A dense layer and batch norm, with values that differ from replica to replica. */
function normalizedModel(replica: number): tfl.Sequential {
  const model = tfl.sequential({
    layers: [tfl.layers.dense({ inputShape: [2], units: 1 }), tfl.layers.batchNormalization({})],
  });
  model.setWeights(model.getWeights().map((weight, i) => tf.fill(weight.shape, 1 + i + 10 * replica)));
  return model;
}

const fitOnce = (model: tfl.Sequential) =>
  model.fit(
    tf.tensor2d([
      [1, 2],
      [3, 4],
    ]),
    tf.tensor2d([[1], [0]]),
    { epochs: 1, verbose: 0 },
  );

const SCENES: Record<string, Scene> = {
  /** The last replica's loss is not a number: everybody must hear so. */
  merge: (context) => {
    const isLast = context.replicaIdInSyncGroup === context.numReplicasInSync - 1;
    const sent = [
      isLast ? Number.NaN : 0.5,
      Number.NEGATIVE_INFINITY,
      -0,
      undefined,
      new Float32Array([1.5, Number.NaN]),
    ];
    return context.merge({ sent }, (values) => values);
  },

  clipped: (context, { late }) => {
    const replica = context.replicaIdInSyncGroup;
    const make = () => tf.variable(tf.tensor1d([replica, replica, 5 * replica]), true, 'w');
    const early = late ? null : make();
    const optimizer = context.optimizer(tf.train.sgd(0.1));
    const w = early ?? make();
    // All want the same where the first step is replica 0's: then it has a closed form, too.
    const lines = linesDuring(() => clippedSteps(w, optimizer, targetOf(late ? 0 : replica)));
    return { weights: numbersOf([w])[0], lines };
  },

  /** Two heads of one shape, each used by the replicas of one parity; then all by all, weighted with zero. */
  heads: async (context, { how }) => {
    const heads = ['head0', 'head1'].map((name) => tf.variable(tf.tensor1d([0, 0]), true, name)) as [
      tf.Variable,
      tf.Variable,
    ];
    const own = context.replicaIdInSyncGroup % 2;
    const ownOnly = () => tf.sum(tf.mul(heads[own] as tf.Variable, own === 0 ? 1 : 10)) as tf.Scalar;
    const both = () => tf.add(ownOnly(), tf.mul(0, tf.sum(heads[1 - own] as tf.Variable))) as tf.Scalar;
    const swapped = own === 0 ? heads : [heads[1], heads[0]];
    if (how === 'trainer order')
      return { message: await attempt(() => context.trainer(swapped, { optimizer: { kind: 'sgd' } })) };
    if (how === 'trainer') {
      const trainer = context.trainer(heads, { optimizer: { kind: 'sgd' } });
      return { message: await attempt(() => trainer.step(ownOnly, 1)), weights: numbersOf(heads) };
    }
    const optimizer = context.optimizer(tf.train.sgd(1));
    const variables = how === 'own list' ? [heads[own] as tf.Variable] : how === 'order' ? swapped : heads;
    const message = await attempt(() => {
      if (how === 'variableGrads') optimizer.applyGradients(tf.variableGrads(ownOnly).grads);
      else optimizer.minimize(how === 'both' ? both : ownOnly, false, variables);
    });
    return { message, weights: numbersOf(heads) };
  },

  /** One replica decides by itself: a learning rate, a momentum, another kind of optimizer, a loss scale. */
  settings: async (context, { what }) => {
    const w = tf.variable(tf.zeros([300]), true, 'w');
    const isOdd = context.replicaIdInSyncGroup === 1;
    const loss = () => tf.sum(w) as tf.Scalar;
    let step: () => unknown;
    if (what === 'trainer rate' || what === 'loss scale') {
      const lossScale = what === 'loss scale' && isOdd ? 2 : 1;
      const trainer = context.trainer([w], { optimizer: { kind: 'sgd' }, lossScale });
      step = () => trainer.step(loss, what === 'trainer rate' && isOdd ? 0.25 : 0.5);
    } else {
      const momentum = tf.train.momentum(0.5, what === 'momentum' && isOdd ? 0.8 : 0.9);
      const optimizer = context.optimizer(what === 'kind' && isOdd ? tf.train.sgd(0.5) : momentum);
      if (what === 'rate' && isOdd) momentum.setLearningRate(0.25);
      if (what === 'nan') (momentum as unknown as { learningRate: unknown }).learningRate = Number.NaN;
      step = () => optimizer.minimize(loss, false, [w]);
    }
    return { message: await attempt(step), weights: [...new Set(w.dataSync())] };
  },

  /** Other inputs on one replica: of another width, kind or number; fewer examples are no other inputs. */
  inputs: async (context) => {
    const w = tf.variable(tf.ones([1]), true, 'w');
    const isOdd = context.replicaIdInSyncGroup === 1;
    const losses: Record<string, (...inputs: tf.Tensor[]) => tf.Scalar> = {};
    const trainer = context.trainer([w], { optimizer: { kind: 'sgd' } });
    const step = (name: string, shape: number[], values: Float32Array | Int32Array, count = 1) => {
      losses[name] ??= (...inputs) =>
        tf.mul(tf.mean(tf.cast(inputs[0] as tf.Tensor, 'float32')), tf.sum(w)) as tf.Scalar;
      return attempt(() => trainer.step(losses[name] as () => tf.Scalar, 0.5, Array(count).fill({ values, shape })));
    };
    return {
      fewer: await step('fewer', isOdd ? [1, 2] : [4, 2], new Float32Array(isOdd ? 2 : 8).fill(isOdd ? 3 : 1)),
      // The mean of the replicas' means, however many examples each has.
      weight: numbersOf([w])[0],
      width: await step('width', isOdd ? [2, 4] : [4, 2], new Float32Array(8)),
      kind: await step('kind', [4, 2], isOdd ? new Int32Array(8) : new Float32Array(8)),
      number: await step('number', [4, 2], new Float32Array(8), isOdd ? 2 : 1),
    };
  },

  /** The head first, then the body too: by core variables, by layers that were frozen, by variables made after the first steps. */
  unfrozen: async (context, { how }) => {
    const replica = context.replicaIdInSyncGroup;
    const [x, y] = [
      tf.tensor2d([
        [1, 2],
        [3, 4],
      ]),
      tf.tensor2d([[1], [2]]),
    ];
    if (how === 'layers') {
      const model = tfl.sequential({
        layers: [
          tfl.layers.dense({ inputShape: [2], units: 2, activation: 'tanh', trainable: false }),
          tfl.layers.dense({ units: 1 }),
        ],
      });
      model.setWeights(model.getWeights().map((weight, i) => tf.fill(weight.shape, 0.1 + i + replica)));
      for (const trainable of [false, true]) {
        // One for each list of variables: TensorFlow.js keeps an optimizer's slots by their places in the list.
        const optimizer = context.optimizer(tf.train.adam(0.01));
        (model.layers[0] as tfl.layers.Layer).trainable = trainable;
        // Frozen weights are loaded on the chief, as a checkpoint of another run would be.
        if (trainable && replica === 0)
          (model.layers[0] as tfl.layers.Layer).setWeights([tf.fill([2, 2], 0.3), tf.ones([2])]);
        model.compile({ optimizer, loss: 'meanSquaredError' });
        await model.fit(x, y, { epochs: 3, verbose: 0 });
      }
      return numbersOf(model.getWeights());
    }
    const body = () => tf.variable(tf.fill([2, 2], 0.5 + replica), true, 'body');
    const head = tf.variable(tf.fill([2, 1], 0.25 + replica), true, 'head');
    const made = how === 'made later' ? null : body();
    const optimizer = context.optimizer(tf.train.adam(0.01));
    const loss = (kernel: tf.Tensor2D) => () =>
      tf.losses.meanSquaredError(y, tf.matMul(tf.tanh(tf.matMul(x, kernel)), head as tf.Tensor2D)) as tf.Scalar;
    for (let i = 0; i < 3; i++) optimizer.minimize(loss((made as tf.Tensor2D) ?? tf.eye(2)), false, [head]);
    const kernel = made ?? body();
    for (let i = 0; i < 3; i++) optimizer.minimize(loss(kernel as tf.Tensor2D), false, [head, kernel]);
    return numbersOf([head, kernel]);
  },

  /** Weights and statistics loaded on the chief only: before the first step, after it, everywhere alike, and mirrored then. */
  loaded: async (context, { when }) => {
    const isChief = context.replicaIdInSyncGroup === 0;
    const model = normalizedModel(context.replicaIdInSyncGroup);
    const names = model.weights.map(({ name }) => name.split('/').at(-1) as string);
    model.compile({ optimizer: context.optimizer(tf.train.sgd(0.01)), loss: 'meanSquaredError' });
    const load = () => model.setWeights(model.getWeights().map((weight, i) => tf.fill(weight.shape, 7 + i)));
    if (when === 'before' && isChief) load();
    await fitOnce(model);
    if (when === 'everywhere' || (when !== 'before' && isChief)) load();
    if (when === 'mirrored') context.mirror(model);
    let message = 'taken';
    if (when === 'save') message = await attempt(() => context.averageStatistics(model));
    else await fitOnce(model).catch((error: Error) => (message = error.message));
    const before = numbersOf(model.getWeights());
    if (message === 'taken') context.averageStatistics(model);
    return { message, names, before, after: numbersOf(model.getWeights()) };
  },

  /** A slot of the optimizer is changed on one replica: the weights part in the next update, and nobody has assigned any. */
  slot: async (context) => {
    const w = tf.variable(tf.ones([3]), true, 'w');
    const optimizer = context.optimizer(tf.train.momentum(0.1, 0.9));
    const step = () => optimizer.minimize(() => tf.sum(tf.square(w)) as tf.Scalar, false, [w]);
    step();
    const [{ variable: slot }] = (optimizer as unknown as { accumulations: [{ variable: tf.Variable }] }).accumulations;
    if (context.replicaIdInSyncGroup === 1) slot.assign(tf.fill([3], 5));
    let steps = 1;
    let message = 'taken';
    while (message === 'taken' && steps < 50) {
      message = await attempt(step);
      steps++;
    }
    return { message, steps };
  },

  /** A trainer's weights are changed in one process (of several; on threads there is one copy). */
  trainerWeights: async (context) => {
    const w = tf.variable(tf.ones([40]), true, 'first');
    const v = tf.variable(tf.ones([40]), true, 'second');
    const trainer = context.trainer([w, v], { optimizer: { kind: 'sgd' } });
    const step = () => trainer.step(() => tf.add(tf.sum(w), tf.sum(v)) as tf.Scalar, 0.5);
    const first = await attempt(step);
    context.communicator.barrier();
    if (context.replicaIdInSyncGroup === 0) trainer.weights[57] = 9;
    context.communicator.barrier();
    const save = await attempt(() => context.checkMirrored());
    let steps = 1;
    let later = 'taken';
    while (later === 'taken' && steps < 30) {
      later = await attempt(step);
      steps++;
    }
    return { first, save, later, steps };
  },

  /** A frozen layer beside a trainer's variables, and statistics, begin as replica 0's. */
  beside: async (context) => {
    const replica = context.replicaIdInSyncGroup;
    const [frozen, counter, w] = [
      tf.variable(tf.fill([2], replica), false, 'frozen'),
      tf.variable(tf.scalar(replica, 'int32'), false, 'counter'),
      tf.variable(tf.fill([2], replica), true, 'w'),
    ];
    const trainer = context.trainer([w], { optimizer: { kind: 'sgd' } });
    await trainer.step(() => tf.sum(tf.mul(w, tf.add(frozen, 1))) as tf.Scalar, 0.5);
    return numbersOf([frozen, counter, w]);
  },

  /** A replica's own variables are its own: the chief keeps a copy of the model that nobody else has. */
  privately: (context) => {
    const replica = context.replicaIdInSyncGroup;
    const own = replica === 0 ? tf.variable(tf.tensor1d([5, 5]), true, 'own') : null;
    const w = tf.variable(tf.fill([2], replica), true, 'w');
    const optimizer = context.optimizer(tf.train.sgd(0.5));
    for (let i = 0; i < 12; i++) optimizer.minimize(() => tf.sum(tf.mul(w, replica + 1)) as tf.Scalar, false, [w]);
    return { own: own && [...own.dataSync()], w: [...w.dataSync()] };
  },

  metrics: async (context) => {
    const replica = context.replicaIdInSyncGroup;
    const logs = {
      val_loss: replica,
      loss: tf.scalar(2 * replica) as tf.Scalar | number,
      acc: replica === 0 ? Number.NaN : 1,
    };
    const other = await attempt(() => context.averageMetrics(replica === 1 ? { acc: 1 } : { loss: 1 }));
    const wrong = await attempt(() => context.averageMetrics({ loss: 'low' as never }));
    return { logs: context.averageMetrics(logs), other, wrong };
  },

  forgotten: (context) => {
    const w = tf.variable(tf.ones([2]));
    const step = (optimizer: tf.Optimizer) => optimizer.minimize(() => tf.sum(w) as tf.Scalar, false, [w]);
    const used = linesDuring(() => step(context.optimizer(tf.train.sgd(0.1))));
    const alone = linesDuring(() => step(soloContext(context).optimizer(tf.train.sgd(0.1))));
    const forgotten = linesDuring(() => [tf.train.adam(), tf.train.sgd(1)].forEach(step));
    return { used, alone, forgotten };
  },

  wrongOptimizers: (context) =>
    Promise.all(
      ['adam', undefined, null, {}, tf.scalar(1)].map(
        async (wrong) => (await attempt(() => context.optimizer(wrong as never))).split('\n')[0],
      ),
    ),

  /** What no step takes: each is refused where it is handed over, nobody waits, and the weights stay as they were. */
  refusedSteps: async (context) => {
    const w = tf.variable(tf.ones([2, 1]));
    const trainer = context.trainer([w], { optimizer: { kind: 'sgd' } });
    const loss = (x: tf.Tensor) => tf.mean(tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D)) as tf.Scalar;
    const input = (values: unknown, shape: unknown) => [{ values, shape }];
    const full = new Float32Array(8).fill(1);
    const good = input(full, [4, 2]);
    const vector = () => tf.sum(w, 1);
    const tries: [unknown, unknown, unknown][] = [
      [loss, undefined, good],
      [loss, Number.NaN, good],
      [loss, '0.1', good],
      [loss, tf.scalar(0.1), good],
      [loss, -1, good],
      [loss, Number.POSITIVE_INFINITY, good],
      [loss, 0.1, input(full.subarray(0, 2), [4, 2])],
      [loss, 0.1, input(full, [2, 2])],
      [loss, 0.1, input([...full], [4, 2])],
      [loss, 0.1, input(Float64Array.from(full), [4, 2])],
      [loss, 0.1, input(full, 8)],
      [loss, 0.1, input(full, [4, 2.5])],
      [loss, 0.1, [tf.ones([4, 2])]],
      [loss, 0.1, full],
      [null, 0.1, good],
      [vector, 0.1, undefined],
      [async () => tf.scalar(1), 0.1, undefined],
      [() => 3, 0.1, undefined],
      [() => tf.sum(tf.cast(w, 'int32')), 0.1, undefined],
    ];
    const messages: unknown[] = [];
    for (const args of tries) {
      const message = await attempt(() => trainer.step(...(args as Parameters<typeof trainer.step>)));
      messages.push(message.split('\n')[0]);
    }
    await trainer.step(loss, 0, [{ values: full, shape: [4, 2] }]);
    return { messages, weights: [...w.dataSync()] };
  },
};

/** What `refusedSteps` says, in order. */
export const REFUSED_STEPS = [
  'The learning rate must be a number, got undefined.',
  'The learning rate must be a finite number that is not negative, got NaN.',
  "The learning rate must be a number, got '0.1'.",
  'The learning rate must be a number, got a float32 tensor of shape [].',
  'The learning rate must be a finite number that is not negative, got -1.',
  'The learning rate must be a finite number that is not negative, got Infinity.',
  'Input 0 of step() has 2 values, and its shape [4,2] holds 8.',
  'Input 0 of step() has 8 values, and its shape [2,2] holds 4.',
  'Input 0 of step() must have values in a Float32Array or an Int32Array, got the list [1,1,1,1,1,1,1,1].',
  'Input 0 of step() must have values in a Float32Array or an Int32Array, got a Float64Array.',
  'The shape of input 0 of step() must be a list of whole numbers, got 8.',
  'The shape of input 0 of step() must be a list of whole numbers, got the list [4,2.5].',
  'Input 0 of step() must have values in a Float32Array or an Int32Array, got a float32 tensor of shape [4,2].',
  'The inputs of step() must be a list, got a Float32Array.',
  'step() takes a function that computes the loss, got null.',
  'The loss must be a scalar tensor of float32, got a float32 tensor of shape [2].',
  'The loss must be a scalar tensor, got a promise.',
  'The loss must be a scalar tensor of float32, got 3.',
  'The loss must be a scalar tensor of float32, got an int32 tensor of shape [].',
];

/** Entry point of the replicas. */
export default async function run(context: ReplicaContext, args: Record<string, unknown>): Promise<unknown> {
  tf.engine();
  return await (SCENES[args.scene as string] as Scene)(context, args);
}
