/**
 * `model.fit` with a recorded step: the weights are, bit by bit, those of a run in which TensorFlow.js runs every step on the
 * same backend (whose kernels have tests of their own), and a user's code is never left out unasked.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import {
  CustomCallback,
  initializers,
  input,
  LayersModel,
  layers,
  model as makeModel,
  regularizers,
  type SymbolicTensor,
  sequential,
} from '@tensorflow/tfjs-layers';
import type { OneDnnBackend } from '../backend.js';
import { sample, toTensor } from '../testing/backend.js';
import { ownCodeOf, type TrainableModel } from './built-in.js';
import { setRunEagerly } from './fit-program.js';

await tf.setBackend('onednn');
const backend = tf.backend() as OneDnnBackend;
let said: string[] = [];

beforeEach(() => {
  said = [];
  backend.runtime.onProgram = (text) => said.push(text);
});
afterEach(() => {
  backend.runtime.onProgram = () => {};
});

const recordings = () => said.filter((text) => text.startsWith('recorded')).length;

/** A residual block, batch norm, an L2 penalty, two outputs' worth of layers: what a user's network is made of. */
function network(extra: (x: SymbolicTensor) => SymbolicTensor = (x) => x): LayersModel {
  const kernel = (seed: number) => initializers.heNormal({ seed });
  const images = input({ shape: [8, 8, 3] });
  const convolve = (x: SymbolicTensor, seed: number) =>
    layers
      .conv2d({
        filters: 16,
        kernelSize: 3,
        padding: 'same',
        useBias: false,
        kernelInitializer: kernel(seed),
        kernelRegularizer: regularizers.l2({ l2: 1e-3 }),
      })
      .apply(x) as SymbolicTensor;
  const normalize = (x: SymbolicTensor) => layers.batchNormalization().apply(x) as SymbolicTensor;
  const relu = (x: SymbolicTensor) => layers.activation({ activation: 'relu' }).apply(x) as SymbolicTensor;
  const x = relu(normalize(convolve(images, 1)));
  const y = relu(layers.add().apply([normalize(convolve(x, 2)), x]) as SymbolicTensor);
  const pooled = layers.globalAveragePooling2d({}).apply(extra(y)) as SymbolicTensor;
  const output = layers.dense({ units: 4, activation: 'softmax', kernelInitializer: kernel(3) }).apply(pooled);
  return makeModel({ inputs: images, outputs: output as SymbolicTensor });
}

const x = toTensor(sample([52, 8, 8, 3], 1));
const y = tf.oneHot(
  tf.tensor1d(
    Array.from({ length: 52 }, (_, i) => (i * 7) % 4),
    'int32',
  ),
  4,
);

type Fit = (model: LayersModel) => Promise<unknown>;

/** Weights, moving averages included, and what `train` returns, of a model that runs eagerly or as it likes. */
async function outcome(make: () => LayersModel, train: Fit, isEager: boolean): Promise<unknown[]> {
  const model = make();
  if (isEager) setRunEagerly(model, true);
  const returned = await train(model);
  const weights = model.getWeights().map((weight) => Array.from(weight.dataSync()));
  model.dispose();
  return [returned, ...weights];
}

/** Asserts that a recording computes what TensorFlow.js computes. @returns how many recordings there were. */
async function assertUnseen(make: () => LayersModel, train: Fit): Promise<number> {
  const eager = await outcome(make, train, true);
  assert.equal(recordings(), 0, 'it ran eagerly');
  const recorded = await outcome(make, train, false);
  assert.deepEqual(recorded, eager);
  return recordings();
}

/** Four full batches and a part of one in each of four epochs. */
const fit: Fit = async (model) => {
  const options = { batchSize: 12, epochs: 4, shuffle: false, verbose: 0 } as const;
  const { history } = await model.fit(x, y, options);
  return history;
};

const compiled =
  (optimizer: () => tf.Optimizer, metrics: string[] = []) =>
  () => {
    const model = network();
    model.compile({ optimizer: optimizer(), loss: 'categoricalCrossentropy', metrics });
    return model;
  };

describe('model.fit, recorded', () => {
  for (const [name, optimizer] of [
    ['momentum', () => tf.train.momentum(0.05, 0.9)],
    ['adam', () => tf.train.adam(0.01)],
  ] as const) {
    it(`trains as TensorFlow.js does with ${name}; one recording, whatever the end of an epoch is like`, async () => {
      assert.equal(await assertUnseen(compiled(optimizer), fit), 1);
    });
  }

  it('tries ever more rarely where an optimizer replaces the weights in every step', async () => {
    assert.equal(
      await assertUnseen(
        compiled(() => tf.train.adadelta(0.5)),
        fit,
      ),
      3,
      'twice at once, then after a while',
    );
  });

  it('gives metrics as well', async () => {
    assert.equal(
      await assertUnseen(
        compiled(() => tf.train.sgd(0.1), ['mse']),
        fit,
      ),
      1,
    );
  });

  it('in bf16', { skip: !backend.runtime.hasBf16 && 'this CPU has no bf16 instructions' }, async () => {
    backend.precision = 'bf16';
    try {
      assert.equal(
        await assertUnseen(
          compiled(() => tf.train.momentum(0.05, 0.9)),
          fit,
        ),
        1,
      );
    } finally {
      backend.precision = 'f32';
    }
  });

  it('with class weights, and with a Dataset-like loop of trainOnBatch', async () => {
    const weighted: Fit = async (model) => {
      const classWeight = { 0: 1, 1: 2, 2: 0.5, 3: 1 };
      const options = { batchSize: 13, epochs: 3, shuffle: false, verbose: 0, classWeight } as const;
      return (await model.fit(x, y, options)).history;
    };
    assert.equal(
      await assertUnseen(
        compiled(() => tf.train.sgd(0.1)),
        weighted,
      ),
      1,
    );
    said = [];
    const loop: Fit = async (model) => {
      const losses: unknown[] = [];
      for (let i = 0; i < 9; i++) losses.push(await model.trainOnBatch(x, y));
      return losses;
    };
    assert.equal(
      await assertUnseen(
        compiled(() => tf.train.sgd(0.1)),
        loop,
      ),
      1,
    );
  });

  it('sees a learning rate that a callback changes, and weights that are set', async () => {
    const optimizer = () => tf.train.momentum(0.05, 0.9);
    const schedule: Fit = async (model) => {
      const onEpochBegin = async (epoch: number) => {
        (model.optimizer as tf.SGDOptimizer).setLearningRate(0.05 / (epoch + 1));
        if (epoch === 2) tf.tidy(() => model.setWeights(model.getWeights().map((weight) => tf.mul(weight, 0.5))));
      };
      const options = { batchSize: 13, epochs: 4, shuffle: false, verbose: 0, callbacks: { onEpochBegin } } as const;
      return (await model.fit(x, y, options)).history;
    };
    assert.equal(await assertUnseen(compiled(optimizer), schedule), 2, 'recorded anew after setWeights');
  });

  it('sees what is changed in a layer before the next fit', async () => {
    const changed: Fit = async (model) => {
      await fit(model);
      const norm = model.layers.find((layer) => layer.getClassName() === 'BatchNormalization');
      (norm as unknown as { epsilon: number }).epsilon = 0.5;
      return fit(model);
    };
    const losses = await outcome(
      compiled(() => tf.train.sgd(0.1)),
      async (model) => [await fit(model), await fit(model)][1],
      false,
    );
    said = [];
    assert.equal(
      await assertUnseen(
        compiled(() => tf.train.sgd(0.1)),
        changed,
      ),
      2,
    );
    const other = await outcome(
      compiled(() => tf.train.sgd(0.1)),
      changed,
      false,
    );
    assert.notDeepEqual(other[0], losses[0], 'the change makes a difference');
  });

  it('leaves copies of weights alone, though it updates in place', async () => {
    const model = compiled(() => tf.train.sgd(0.1))();
    await fit(model);
    const copies = model.getWeights().map((weight) => weight.clone());
    const before = copies.map((copy) => Array.from(copy.dataSync()));
    await fit(model);
    for (const [i, copy] of copies.entries()) assert.deepEqual(Array.from(copy.dataSync()), before[i], `weight ${i}`);
    assert.notDeepEqual(Array.from(model.getWeights()[0]?.dataSync() ?? []), before[0]);
    tf.dispose(copies);
    model.dispose();
  });

  it('takes part in validation, evaluation and compile, which come in between', async () => {
    const mixed: Fit = async (model) => {
      const options = { batchSize: 13, epochs: 3, shuffle: false, verbose: 0, validationData: [x, y] } as const;
      const { history } = await model.fit(x, y, { ...options, validationData: [x, y] });
      const evaluated = (model.evaluate(x, y, { batchSize: 52 }) as tf.Scalar).dataSync()[0];
      model.compile({ optimizer: tf.train.adam(0.01), loss: 'meanSquaredError' });
      return [history, evaluated, await fit(model)];
    };
    assert.equal(
      await assertUnseen(
        compiled(() => tf.train.sgd(0.1)),
        mixed,
      ),
      2,
      'once for each compile',
    );
  });

  it('makes no tensors and no memory grow; dispose gives the memory back', async () => {
    const model = compiled(() => tf.train.momentum(0.05, 0.9))();
    const train = async () => {
      for (let i = 0; i < 10; i++) await model.trainOnBatch(x, y);
    };
    const { bytesFree } = backend.runtime.pool.statistics();
    await model.trainOnBatch(x, y);
    const { numTensors } = tf.memory();
    await train();
    assert.equal(recordings(), 1);
    assert.equal(tf.memory().numTensors, numTensors);
    const { numDataBuffers } = tf.memory();
    const before = backend.runtime.pool.statistics();
    for (let i = 0; i < 10; i++) await train();
    assert.equal(tf.memory().numTensors, numTensors);
    assert.equal(tf.memory().numDataBuffers, numDataBuffers);
    assert.equal(backend.runtime.pool.statistics().bytesInUse, before.bytesInUse);
    model.dispose();
    backend.runtime.pool.trim();
    assert.ok(backend.runtime.pool.statistics().bytesFree <= bytesFree);
    assert.equal(backend.runtime.programs.size, 0);
  });

  it('gives the memory of a Sequential back as well: at dispose, and when it is compiled anew', async () => {
    for (let k = 0; k < 6; k++) {
      said = [];
      const model = sequential({ layers: [layers.dense({ units: 2, inputShape: [8] })] });
      for (let round = 1; round <= 2; round++) {
        model.compile({ optimizer: 'sgd', loss: 'meanSquaredError' });
        assert.equal(backend.runtime.programs.size, 0, `model ${k}, round ${round}`);
        for (let i = 0; i < 6; i++) await model.trainOnBatch(tf.ones([4, 8]), tf.ones([4, 2]));
        assert.equal(recordings(), round, `model ${k}, round ${round}`);
      }
      model.dispose();
      assert.equal(backend.runtime.programs.size, 0, `model ${k}`);
    }
  });

  it('runs a Sequential eagerly if that was said before it was compiled', async () => {
    const model = sequential({ layers: [layers.dense({ units: 2, inputShape: [8] })] });
    setRunEagerly(model, true);
    model.compile({ optimizer: 'sgd', loss: 'meanSquaredError' });
    for (let i = 0; i < 6; i++) await model.trainOnBatch(tf.ones([4, 8]), tf.ones([4, 2]));
    assert.equal(recordings(), 0);
    model.dispose();
  });

  it('is recorded again when weights that were set every few steps no longer are', async () => {
    const model = compiled(() => tf.train.sgd(0.1))();
    for (let round = 0; round < 8; round++) {
      for (let i = 0; i < 10; i++) await model.trainOnBatch(x, y);
      tf.tidy(() => model.setWeights(model.getWeights().map((weight) => tf.mul(weight, 0.99))));
    }
    const before = recordings();
    for (let i = 0; i < 70; i++) await model.trainOnBatch(x, y);
    assert.equal(recordings(), before + 1);
    assert.equal(backend.runtime.programs.size, 1);
    model.dispose();
  });

  it('holds the memory of a few models only, those that are trained', async () => {
    const train = async (model: LayersModel) => (await model.trainOnBatch(x, y)) as number;
    const models = Array.from({ length: 6 }, () => compiled(() => tf.train.sgd(0.1))());
    const losses = models.map((): number[] => []);
    for (let i = 0; i < 8; i++) {
      for (const [which, model] of models.entries()) losses[which]?.push(await train(model));
    }
    assert.equal(recordings(), 4, 'models in turns: the first four');
    for (const own of losses) assert.deepEqual(own, losses[0], 'all alike, recorded or not');
    for (let i = 0; i < 120; i++) await train(models[5] as LayersModel);
    assert.equal(recordings(), 5);
    assert.equal(backend.runtime.programs.size, 4, 'the one that was trained took the place of one that was not');
    for (const model of models) model.dispose();
    assert.equal(backend.runtime.programs.size, 0);
  });
});

describe("a model with a user's own code", () => {
  let calls = 0;

  class Own extends layers.Layer {
    static readonly className = 'Own';
    override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
      calls++;
      return tf.mul((Array.isArray(inputs) ? inputs[0] : inputs) as tf.Tensor, 1);
    }
    override computeOutputShape(shape: (number | null)[]): (number | null)[] {
      return shape;
    }
  }
  const ownLayer = () => {
    const model = network((tensor) => new Own({}).apply(tensor) as SymbolicTensor);
    model.compile({ optimizer: 'sgd', loss: 'categoricalCrossentropy' });
    return model;
  };

  async function steps(model: LayersModel): Promise<number> {
    calls = 0;
    for (let i = 0; i < 12; i++) await model.trainOnBatch(x, y);
    model.dispose();
    return calls;
  }

  it('is not recorded, and its code runs in every step', async () => {
    assert.equal(await steps(ownLayer()), 12);
    assert.match(said.join('\n'), /^model '.*' is not recorded: layer '.*' is of a class of its own, Own$/);
  });

  it('is recorded if that is wished for', async () => {
    const model = ownLayer();
    setRunEagerly(model, false);
    const count = await steps(model);
    assert.ok(count >= 3 && count <= 6, `called ${count} times`);
    assert.equal(recordings(), 1);
  });

  it('also through a loss, a metric or a call hook', async () => {
    const loss = (labels: tf.Tensor, predictions: tf.Tensor) => {
      calls++;
      return tf.losses.meanSquaredError(labels, predictions);
    };
    for (const [args, reason] of [
      [{ loss }, /a loss is a function of its own \('loss'\)/],
      [{ loss: [loss] }, /a loss is a function of its own/],
      [{ loss: 'meanSquaredError', metrics: [loss] }, /a metric is a function of its own/],
    ] as const) {
      said = [];
      const model = network();
      model.compile({ optimizer: 'sgd', ...args } as never);
      assert.equal(await steps(model), 12);
      assert.match(said.join('\n'), reason);
    }
    said = [];
    const hooked = compiled(() => tf.train.sgd(0.1))();
    hooked.layers.at(-1)?.setCallHook(() => void calls++);
    assert.equal(await steps(hooked), 12);
    assert.match(said.join('\n'), /has a call hook/);
  });

  it('runs in every step from when it is put there', async () => {
    class OwnModel extends LayersModel {
      override calculateLosses(): tf.Scalar[] {
        calls++;
        return [];
      }
    }
    const { inputs, outputs } = network();
    const model = new OwnModel({ inputs, outputs, name: 'own' });
    model.compile({ optimizer: 'sgd', loss: 'meanSquaredError' });
    assert.equal(await steps(model), 12, 'a penalty of a model of its own class');

    const hooked = compiled(() => tf.train.sgd(0.1))();
    for (let i = 0; i < 8; i++) await hooked.trainOnBatch(x, y);
    hooked.layers.at(-1)?.setCallHook(() => void calls++);
    assert.equal(await steps(hooked), 12, 'a call hook after the recording');
  });

  it("is recorded with TensorFlow.js' own functions in the place of names", async () => {
    const model = network();
    model.compile({ optimizer: 'sgd', loss: tf.losses.meanSquaredError as never });
    await steps(model);
    assert.equal(recordings(), 1);
  });

  it('callbacks run in any case', async () => {
    class Counter extends CustomCallback {
      constructor() {
        super({ onBatchEnd: async () => void calls++ });
      }
    }
    calls = 0;
    const model = compiled(() => tf.train.sgd(0.1))();
    await model.fit(x, y, { batchSize: 4, epochs: 2, verbose: 0, callbacks: new Counter() });
    assert.equal(recordings(), 1);
    assert.equal(calls, 26);
    model.dispose();
  });
});

describe('ownCodeOf', () => {
  const reasonFor = (...parts: ReturnType<typeof layers.dense>[]) => {
    const model = sequential();
    for (const part of parts as unknown as ReturnType<typeof layers.dense>[]) model.add(part);
    model.compile({ optimizer: 'sgd', loss: 'meanSquaredError', metrics: ['accuracy'] });
    return ownCodeOf((model as unknown as { model: TrainableModel }).model);
  };

  it("knows every layer of TensorFlow.js' as its own", () => {
    const args: Record<string, object> = {
      timeDistributed: { layer: layers.dense({ units: 2 }) },
      bidirectional: { layer: layers.lstm({ units: 2 }) as never },
      rnn: { cell: layers.lstmCell({ units: 2 }) },
      stackedRNNCells: { cells: [layers.gruCell({ units: 2 } as never), layers.simpleRNNCell({ units: 2 })] },
      activation: { activation: 'tanh' },
      permute: { dims: [1] },
      reshape: { targetShape: [1] },
      inputLayer: { inputShape: [3] },
      dot: { axes: 1 },
      embedding: { inputDim: 3, outputDim: 2 },
      cropping2D: { cropping: 1 },
    };
    const common = {
      units: 2,
      filters: 2,
      kernelSize: 3,
      n: 2,
      rate: 0.5,
      stddev: 1,
      numTokens: 3,
      height: 2,
      width: 2,
    };
    const notLayers = /^([A-Z].*|input|minMaxNorm|.*MaxPool|.*AvgPool|avgPool.*|maxPool.*|.*Pooling.*)$/;
    const made: string[] = [];
    for (const [name, factory] of Object.entries(layers)) {
      if (notLayers.test(name) && !/^(global|max|average)\w*Pooling\dd$/.test(name)) continue;
      const layer = (factory as unknown as (args: object) => TrainableModel['layers'][number])({
        ...common,
        poolSize: 2,
        factor: 0.5,
        scale: 2,
        ...args[name],
      });
      made.push(name);
      const model = { name: 'm', layers: [layer], loss: 'meanSquaredError', metrics: ['accuracy'] };
      assert.equal(ownCodeOf(model), null, name);
    }
    assert.ok(made.length > 60, `${made.length} layers: ${made}`);
  });

  it('looks into wrappers and models within models', () => {
    class Own extends layers.Layer {
      static readonly className = 'OwnToo';
    }
    const wrapped = layers.timeDistributed({ layer: new Own({}) as never, inputShape: [3, 4] }) as never;
    const list = { name: 'm', layers: [wrapped], loss: 'meanSquaredError', metrics: null };
    assert.match(ownCodeOf(list) as string, /layer 'own_too.*' is of a class of its own, Own/i);
    const inner = sequential({ layers: [layers.dense({ units: 2, inputShape: [3] })] });
    assert.equal(reasonFor(inner as never, layers.dense({ units: 1 })), null);
    (inner.layers[0] as unknown as { call: unknown }).call = () => tf.scalar(0);
    const outer = { name: 'm', layers: [inner as never], loss: 'meanSquaredError', metrics: null };
    assert.match(ownCodeOf(outer) as string, /has its own call\(\)/);
  });

  it('a stateful layer is not a function of its inputs', () => {
    const lstm = layers.lstm({
      units: 2,
      stateful: true,
      recurrentInitializer: 'glorotUniform',
      batchInputShape: [1, 3, 4],
    }) as never;
    assert.match(reasonFor(lstm) as string, /keeps a state/);
  });
});
