/**
 * What TensorFlow.js reads anew in every step is seen by the step after the change, though it was recorded before. The reference
 * is TensorFlow.js' `cpu`, on which the same model is trained with the same changes: losses and weights must be the same.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import {
  input,
  type LayersModel,
  layers,
  model as makeModel,
  regularizers,
  type SymbolicTensor,
  sequential,
} from '@tensorflow/tfjs-layers';
import type { OneDnnBackend } from '../backend.js';
import { sample, toTensor } from '../testing/backend.js';
import { setRunEagerly } from '../tfjs/fit-program.js';

type Layer = ReturnType<typeof layers.dense>;
/** Members that users change although they are not public. */
type Members = Record<string, unknown>;
const members = (object: unknown) => object as Members;

const set = (object: unknown, key: string, value: unknown): void => {
  members(object)[key] = value;
};

await tf.setBackend('onednn');
const backend = tf.backend() as OneDnnBackend;
const { warn } = console;
beforeEach(() => {
  // TensorFlow.js warns of weights that were frozen without another compile.
  console.warn = () => {};
});
afterEach(async () => {
  console.warn = warn;
  await tf.setBackend('onednn');
});

/** A model, whatever is to be changed in it, and the optimizer that trains it. */
interface Trained {
  readonly model: LayersModel;
  readonly optimizer?: tf.Optimizer;
  readonly change: () => void;
}

/** Enough for a recording and a replay. */
const BEFORE = 7;
const AFTER = 3;

/** Losses, and the weights at the end, of steps with a change in between. An error is a result as well. */
async function outcome(make: () => Trained, isChanged = true) {
  const { model, change, optimizer = tf.train.sgd(0.05) } = make();
  model.compile({ optimizer, loss: 'meanSquaredError' });
  // Not by TensorFlow.js' initializers, which draw.
  tf.tidy(() =>
    model.setWeights(model.getWeights().map(({ shape }, k) => tf.mul(toTensor(sample(shape, 11 + k)), 0.3))),
  );
  const shapeOf = ({ shape }: SymbolicTensor) => [4, ...shape.slice(1)] as number[];
  const x = toTensor(sample(shapeOf(model.inputs[0] as SymbolicTensor), 1));
  const y = toTensor(sample(shapeOf(model.outputs[0] as SymbolicTensor), 2));
  // In the order of now: frozen ones come last.
  const all = [...model.weights];
  const losses: unknown[] = [];
  let replayed = 0;
  for (let i = 0; i < BEFORE + AFTER; i++) {
    if (i === BEFORE) {
      replayed = backend.runtime.programs.size;
      if (isChanged) change();
    }
    const said = await model.trainOnBatch(x, y).catch((error: Error) => error.message);
    // Metrics come behind the loss.
    losses.push(...[said].flat());
  }
  const weights = all.map((weight) => Array.from(weight.read().dataSync()));
  setRunEagerly(model, true);
  return { losses, weights, replayed };
}

function assertClose(actual: unknown, expected: unknown, what: string): void {
  if (typeof expected !== 'number' || Number.isNaN(expected)) assert.equal(actual, expected, what);
  else
    assert.ok(
      Math.abs((actual as number) - expected) <= 2e-4 * (1 + Math.abs(expected)),
      `${what}: ${actual}, not ${expected}`,
    );
}

/** @param isRecorded whether the step is one that can be recorded before the change. */
async function assertSeen(make: () => Trained, { isRecorded = true, matters = true } = {}): Promise<void> {
  await tf.setBackend('onednn');
  const actual = await outcome(make);
  assert.equal(actual.replayed, isRecorded ? 1 : 0, 'recorded before the change');
  await tf.setBackend('cpu');
  const expected = await outcome(make);
  assert.equal(actual.losses.length, expected.losses.length, `${actual.losses}, not ${expected.losses}`);
  for (const [i, loss] of expected.losses.entries()) assertClose(actual.losses[i], loss, `loss ${i}`);
  for (const [which, values] of expected.weights.entries()) {
    for (const [i, value] of values.entries()) assertClose(actual.weights[which]?.[i], value, `weight ${which}[${i}]`);
  }
  if (!matters) return;
  const unchanged = await outcome(make, false);
  assert.notDeepEqual(unchanged, expected, 'the change makes a difference');
}

const dense = (units: number, more: object = {}) => layers.dense({ units, activation: 'tanh', ...more });
const stack = (...parts: unknown[]) => sequential({ layers: parts as Layer[] });
const first = { inputShape: [6] };

describe('what is frozen while a recording is in use', () => {
  const cases: Record<string, () => Trained> = {
    'a layer': () => {
      const model = stack(dense(5, first), dense(2));
      return { model, change: () => set(model.layers[0] as Layer, 'trainable', false) };
    },
    'a model within a model within a model': () => {
      const inner = stack(dense(5, first));
      const model = stack(stack(inner, dense(4)), dense(2));
      return { model, change: () => set(inner, 'trainable', false) };
    },
    'one weight, in its layer': () => {
      const model = stack(dense(5, first), dense(2));
      return { model, change: () => set(members(model.layers[0]?.weights[0]), 'trainable', false) };
    },
    "one weight, in TensorFlow.js' core": () => {
      const model = stack(dense(5, first), dense(2));
      return { model, change: () => set(model.layers[1]?.weights[1]?.read() as tf.Variable, 'trainable', false) };
    },
    'the layer within a wrapper': () => {
      const inner = dense(4);
      const model = stack(layers.timeDistributed({ layer: inner, inputShape: [3, 6] } as never), dense(2));
      return { model, change: () => set(inner, 'trainable', false) };
    },
    'everything, which is an error': () => {
      const model = stack(dense(5, first), dense(2));
      return { model, change: () => set(model, 'trainable', false) };
    },
    'a layer, with an optimizer that has slots': () => {
      const model = stack(dense(5, first), dense(2));
      return {
        model,
        optimizer: tf.train.adam(0.01),
        change: () => set(model.layers[0] as Layer, 'trainable', false),
      };
    },
  };
  for (const [name, make] of Object.entries(cases)) {
    it(`${name}: the next step leaves it`, () => assertSeen(make));
  }

  it('and what is thawed is trained again', () =>
    assertSeen(() => {
      const model = stack(dense(5, first), dense(2));
      const layer = model.layers[0] as Layer;
      model.compile({ optimizer: 'sgd', loss: 'meanSquaredError' });
      // Known to the optimizer, but frozen when the step is recorded.
      const { compile } = model;
      model.compile = (args) => {
        compile.call(model, args);
        layer.trainable = false;
      };
      return { model, change: () => set(layer, 'trainable', true) };
    }));
});

describe('what is changed in a model while a recording is in use', () => {
  const l2 = () => regularizers.l2({ l2: 0.1 });
  const cases: Record<string, () => Trained> = {
    'the strength of a penalty': () => {
      const layer = dense(5, { ...first, kernelRegularizer: l2() });
      return { model: stack(layer, dense(2)), change: () => set(members(members(layer).kernelRegularizer), 'l2', 0.5) };
    },
    'the strength of a penalty that its layer no longer names': () => {
      const penalty = regularizers.l1({ l1: 0.1 });
      const layer = dense(5, { ...first, kernelRegularizer: penalty });
      const model = stack(layer, dense(2));
      members(layer).kernelRegularizer = null;
      return { model, change: () => set(members(penalty), 'l1', 0.5) };
    },
    'another penalty': () => {
      const layer = dense(5, first);
      const add = () =>
        layer.addLoss(() => tf.sum(tf.abs((layer.weights[0] as (typeof layer.weights)[0]).read())) as tf.Scalar);
      return { model: stack(layer, dense(2)), change: add };
    },
    'the method of a layer': () => {
      const layer = dense(5, first);
      const call = () => {
        const plain = layer.call.bind(layer);
        layer.call = (inputs, kwargs) => tf.mul(plain(inputs, kwargs) as tf.Tensor, 0.5);
      };
      return { model: stack(layer, dense(2)), change: call };
    },
    'the activation': () => {
      const layer = dense(5, first);
      const other = members(layers.activation({ activation: 'sigmoid' })).activation;
      return { model: stack(layer, dense(2)), change: () => set(members(layer), 'activation', other) };
    },
    'the activation of a recurrent cell': () => {
      const layer = layers.lstm({ units: 4, recurrentInitializer: 'glorotUniform', inputShape: [3, 6] });
      const other = members(layers.activation({ activation: 'relu' })).activation;
      return { model: stack(layer, dense(2)), change: () => set(members(members(layer).cell), 'activation', other) };
    },
    'a stride, in its place': () => {
      const layer = layers.conv2d({ filters: 3, kernelSize: 3, strides: [1, 1], inputShape: [9, 9, 2] });
      const change = () => {
        const strides = members(layer).strides as number[];
        [strides[0], strides[1]] = [2, 2];
      };
      return { model: stack(layer, layers.globalAveragePooling2d({})), change };
    },
    'the loss function': () => {
      const model = stack(dense(5, first), dense(2));
      const change = () => {
        const { lossFunctions } = members(model).model as { lossFunctions: unknown[] };
        lossFunctions[0] = (labels: tf.Tensor, predictions: tf.Tensor) =>
          tf.mean(tf.abs(tf.sub(labels, predictions)), -1);
      };
      return { model, change };
    },
    'the penalties of the model': () => {
      const model = stack(dense(5, first), dense(2));
      const change = () => set(members(model).model, 'calculateLosses', () => [tf.scalar(3)]);
      return { model, change };
    },
    'the metrics': () => {
      const model = stack(dense(5, first), dense(2));
      const metric = (labels: tf.Tensor, predictions: tf.Tensor) => tf.mean(tf.sub(labels, predictions), -1);
      return { model, change: () => set(members(model).model, 'metricsTensors', [[metric, 0]]) };
    },
    'the weights': () => {
      const model = stack(dense(5, first), dense(2));
      const change = () => tf.tidy(() => model.setWeights(model.getWeights().map((weight) => tf.mul(weight, 0.5))));
      return { model, change };
    },
    'the variable of a weight': () => {
      const [layer, other] = [dense(5, first), dense(5, first)];
      const model = stack(layer, dense(2));
      const change = () => {
        stack(other);
        tf.tidy(() => other.setWeights(layer.getWeights().map((weight) => tf.mul(weight, 0.5))));
        members(layer).kernel = members(other).kernel;
      };
      return { model, change };
    },
  };
  for (const [name, make] of Object.entries(cases)) it(`${name}: the next step has it`, () => assertSeen(make));
});

describe('what is changed in an optimizer', () => {
  const cases: Record<string, [() => tf.Optimizer, (optimizer: Members) => void]> = {
    'sgd, rate': [() => tf.train.sgd(0.05), (o) => (o as unknown as tf.SGDOptimizer).setLearningRate(0.2)],
    'momentum, rate': [
      () => tf.train.momentum(0.05, 0.9),
      (o) => (o as unknown as tf.SGDOptimizer).setLearningRate(0.2),
    ],
    'momentum, Nesterov': [() => tf.train.momentum(0.05, 0.9), (o) => set(o, 'useNesterov', true)],
    'adam, rate': [() => tf.train.adam(0.01), (o) => set(o, 'learningRate', 0.1)],
    'adam, beta1': [() => tf.train.adam(0.01), (o) => set(o, 'beta1', 0.5)],
    'adam, epsilon': [() => tf.train.adam(0.01), (o) => set(o, 'epsilon', 0.5)],
    'rmsprop, decay': [() => tf.train.rmsprop(0.01), (o) => set(o, 'decay', 0.5)],
    'rmsprop, momentum': [() => tf.train.rmsprop(0.01), (o) => set(o, 'momentum', 0.5)],
    'adagrad, rate': [() => tf.train.adagrad(0.05), (o) => set(o, 'learningRate', 0.2)],
  };
  for (const [name, [make, change]] of Object.entries(cases)) {
    it(`${name}: the next step has it`, () =>
      assertSeen(() => {
        const optimizer = make();
        return { model: stack(dense(5, first), dense(2)), optimizer, change: () => change(members(optimizer)) };
      }));
  }
});

describe('random layers that are switched on', () => {
  const cases: Record<string, () => [unknown, string, number]> = {
    dropout: () => [layers.dropout({ rate: 0 }), 'rate', 0.5],
    gaussianDropout: () => [layers.gaussianDropout({ rate: 0 }), 'rate', 0.5],
    gaussianNoise: () => [layers.gaussianNoise({ stddev: 0 }), 'stddev', 1],
    alphaDropout: () => [layers.alphaDropout({ rate: 0 }), 'rate', 0.5],
  };
  for (const [name, make] of Object.entries(cases)) {
    it(`${name}: the next steps have it, and when it is switched off`, async () => {
      const [layer, key, value] = make();
      const model = stack(dense(8, first), layer, dense(2));
      model.compile({ optimizer: tf.train.sgd(0), loss: 'meanSquaredError' });
      const [x, y] = [toTensor(sample([4, 6], 1)), toTensor(sample([4, 2], 2))];
      const losses = async () => {
        const all: unknown[] = [];
        for (let i = 0; i < BEFORE; i++) all.push(await model.trainOnBatch(x, y));
        return new Set(all);
      };
      const plain = await losses();
      assert.equal(plain.size, 1);
      assert.equal(backend.runtime.programs.size, 1, 'recorded');
      members(layer)[key] = value;
      assert.equal((await losses()).size, BEFORE, 'another draw in each step');
      members(layer)[key] = 0;
      assert.deepEqual(await losses(), plain);
      model.dispose();
    });
  }

  it('dropout of a recurrent cell', async () => {
    const layer = layers.gru({ units: 8, recurrentInitializer: 'glorotUniform', inputShape: [3, 6] } as never);
    const model = stack(layer, dense(2));
    model.compile({ optimizer: tf.train.sgd(0), loss: 'meanSquaredError' });
    const [x, y] = [toTensor(sample([4, 3, 6], 1)), toTensor(sample([4, 2], 2))];
    for (let i = 0; i < BEFORE; i++) await model.trainOnBatch(x, y);
    assert.equal(backend.runtime.programs.size, 1, 'recorded');
    members(members(layer).cell).dropout = 0.5;
    const losses = new Set<unknown>();
    for (let i = 0; i < 4; i++) losses.add(await model.trainOnBatch(x, y));
    assert.equal(losses.size, 4);
    model.dispose();
  });
});

describe("a step of one's own", () => {
  it('that calls a layer sees what is changed in it, also within what it wraps', () => {
    const inner = layers.dense({ units: 3, kernelRegularizer: 'l1l2' });
    const layer = layers.timeDistributed({ layer: inner });
    const x = tf.keep(toTensor(sample([2, 4, 5], 1)));
    const program = backend.program();
    const scale = new Float32Array(1);
    const step = () =>
      tf.tidy(() => {
        const y = tf.sum(tf.abs(layer.apply(x) as tf.Tensor));
        const penalty = inner.calculateLosses()[0] as tf.Scalar;
        backend.readInto(tf.add(y, penalty).dataId, scale);
      });
    const check = (what: string) => {
      for (let i = 0; i < 24; i++) {
        step();
        const [expected] = scale;
        scale[0] = Number.NaN;
        program.run(step);
        assert.equal(scale[0], expected, `${what}, run ${i}`);
      }
      assert.equal(program.state, 'recorded');
      return scale[0];
    };
    const results = [check('at first')];
    set(inner, 'activation', members(layers.activation({ activation: 'relu' })).activation);
    results.push(check('activation'));
    set(members(inner).kernelRegularizer, 'l2', 3);
    results.push(check('penalty'));
    inner.trainable = false;
    check('frozen');
    assert.equal(new Set(results).size, 3, 'each change makes a difference');
    program.dispose();
    tf.dispose(x);
  });
});

/** A layer of each kind that has attributes, behind an input that it takes. */
const kinds: Record<string, () => [Layer | Layer[], (number | null)[]]> = {};
const kind = (name: string, args: object, shape: number[]) => {
  kinds[name] = () => [
    (layers as unknown as Record<string, (args: object) => Layer>)[name]?.(structuredClone(args)) as Layer,
    shape,
  ];
};
kind('leakyReLU', { alpha: 0.3 }, [6]);
kind('elu', { alpha: 1 }, [6]);
kind('prelu', {}, [6]);
kind('thresholdedReLU', { theta: 0.2 }, [6]);
kind('reLU', { maxValue: 2 }, [6]);
kind('softmax', { axis: -1 }, [6]);
kind('batchNormalization', {}, [6]);
kind('layerNormalization', {}, [6]);
kind('dense', { units: 3, kernelRegularizer: 'l1l2' }, [6]);
kind('conv1d', { filters: 3, kernelSize: 2, biasRegularizer: 'l1l2' }, [7, 4]);
kind('conv2d', { filters: 3, kernelSize: 2 }, [7, 7, 2]);
kind('depthwiseConv2d', { kernelSize: 2 }, [7, 7, 2]);
kind('separableConv2d', { filters: 3, kernelSize: 2 }, [7, 7, 2]);
kind('conv2dTranspose', { filters: 3, kernelSize: 2 }, [5, 5, 2]);
kind('maxPooling2d', { poolSize: 2 }, [7, 7, 2]);
kind('averagePooling2d', { poolSize: 2 }, [7, 7, 2]);
kind('maxPooling1d', { poolSize: 2 }, [7, 2]);
kind('upSampling2d', { size: [2, 2] }, [5, 5, 2]);
kind('zeroPadding2d', { padding: [1, 1] }, [5, 5, 2]);
kind('cropping2D', { cropping: [1, 1] }, [5, 5, 2]);
kind('repeatVector', { n: 3 }, [5]);
kind('rescaling', { scale: 2, offset: 0.5 }, [6]);
kind('simpleRNN', { units: 3, recurrentInitializer: 'glorotUniform' }, [4, 5]);
kind('gru', { units: 3, recurrentInitializer: 'glorotUniform' }, [4, 5]);
kind('lstm', { units: 3, recurrentInitializer: 'glorotUniform' }, [4, 5]);

/** Numbers, text and booleans inside a layer, and how to change each. */
function* attributes(owner: Members, path: string, depth = 0): Generator<[string, (layer: Members) => void]> {
  const skipped =
    /^(id|name|originalName|batchInputShape|dtype|inboundNodes|outboundNodes|_.*|DEFAULT_.*|.*Initializer|inputSpec|weights)$/;
  for (const [key, value] of Object.entries(owner)) {
    if (skipped.test(key)) continue;
    const at = `${path}.${key}`;
    const set = (other: unknown) => (layer: Members) => {
      const keys = at.split('.').slice(1);
      const target = keys.slice(0, -1).reduce((object, name) => object[name] as Members, layer);
      target[key] = other;
    };
    if (typeof value === 'number') yield [at, set(Number.isInteger(value) ? value + 1 : value * 0.5)];
    else if (typeof value === 'boolean') yield [at, set(!value)];
    else if (value === 'valid') yield [at, set('same')];
    else if (value instanceof tf.Tensor || value === null || typeof value !== 'object' || depth > 2) continue;
    else if (Array.isArray(value) || 'getClassName' in value)
      yield* attributes(value as unknown as Members, at, depth + 1);
  }
}

describe('every attribute of every kind of layer', () => {
  for (const [name, make] of Object.entries(kinds)) {
    it(name, async () => {
      const build = () => {
        const [layer, shape] = make();
        const x = input({ shape });
        const y = (layer as Layer).apply(x) as SymbolicTensor;
        const flat = y.rank > 2 ? layers.flatten().apply(y) : y;
        const scaled = layers.dense({ units: 2 }).apply(flat) as SymbolicTensor;
        return { layer: members(layer), model: makeModel({ inputs: x, outputs: scaled }) };
      };
      let seen = 0;
      for (const [path, change] of attributes(build().layer, name)) {
        const twins = [true, false].map((isEager) => {
          const { layer, model } = build();
          model.compile({ optimizer: tf.train.sgd(0.01), loss: 'meanSquaredError' });
          tf.tidy(() =>
            model.setWeights(model.getWeights().map(({ shape }, k) => tf.mul(toTensor(sample(shape, 11 + k)), 0.3))),
          );
          if (isEager) setRunEagerly(model, true);
          return { layer, model };
        });
        const x = toTensor(sample([4, ...(make()[1] as number[])], 1));
        const y = toTensor(sample([4, 2], 2));
        const results: unknown[][] = [];
        for (const { layer, model } of twins) {
          const losses: unknown[] = [];
          for (let i = 0; i < BEFORE + 2; i++) {
            if (i === BEFORE) {
              assert.equal(backend.runtime.programs.size, model === twins[1]?.model ? 1 : 0, `${path}, recorded`);
              change(layer);
            }
            losses.push(
              await model.trainOnBatch(x, y).catch((error: Error) => error.message.replace(/_[A-Za-z]*\d+/g, '')),
            );
          }
          results.push(losses);
          setRunEagerly(model, true);
        }
        assert.deepEqual(results[1], results[0], path);
        seen++;
      }
      assert.ok(seen >= 1, `${seen} attributes`);
    });
  }
});
