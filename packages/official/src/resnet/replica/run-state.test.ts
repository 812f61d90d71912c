/** What a checkpoint of a run holds: all of it comes back, under upstream's names, and what cannot be is named. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CheckpointError } from '../../utils/checkpoint/checkpoint-manager.js';
import {
  fillArrays,
  fillForWarmStart,
  findNonFinite,
  placeOf,
  type RunArrays,
  type RunState,
  stateOf,
  toTensorFile,
} from './run-state.js';

const STATE: RunState = {
  position: { globalStep: 12, epochs: 3, callEpochs: 2, step: 5, batchSize: 8 },
  seed: 2 ** 32 - 1,
  fineTune: false,
  model: { size: 8, version: 2 },
  scalars: { updates: 12, lossScale: 2 ** -30, goodSteps: 1999 },
  isForeign: false,
};

/** A convolution that is trained or frozen, a dense layer, and a moving mean; other numbers for another `first`. */
function arrays(first: number, isTuned = false): RunArrays {
  const numbers = (length: number, from: number) => Float32Array.from({ length }, (_, i) => first + from + i);
  const conv = { name: 'resnet_model/conv2d/kernel', length: 6, shape: [2, 3] };
  const dense = { name: 'resnet_model/dense/kernel', length: 2, shape: [2] };
  const trained = isTuned
    ? [{ ...dense, offset: 0 }]
    : [
        { ...conv, offset: 0 },
        { ...dense, offset: 6 },
      ];
  const length = isTuned ? 2 : 8;
  return {
    trained: { segments: trained, weights: numbers(length, 0), slots: { momentum: numbers(length, 100) } },
    frozen: isTuned
      ? { segments: [{ ...conv, offset: 0 }], values: numbers(6, 200) }
      : { segments: [], values: new Float32Array(0) },
    statistics: {
      segments: [{ name: 'resnet_model/batch_normalization/moving_mean', offset: 0, length: 3 }],
      values: numbers(3, 300),
    },
  };
}

const values = ({ trained, frozen, statistics }: RunArrays) =>
  [trained.weights, ...Object.values(trained.slots), frozen.values, statistics.values].map((one) => [...one]);
const file = (state: RunState, from: RunArrays) => ({ path: 'ckpt', ...toTensorFile(state, from) });

describe('a run’s state', () => {
  it('comes back from the metadata, with and without a loss scale', () => {
    const pictures = { dataset: 'mine', size: 224 };
    for (const state of [
      STATE,
      { ...STATE, scalars: { updates: 12 }, fineTune: true },
      { ...STATE, pictures },
      { ...STATE, pictures: { ...pictures, classNames: ['a "b"', 'c\nd', ''] } },
    ]) {
      assert.deepEqual(stateOf(toTensorFile(state, arrays(0)).metadata), state);
    }
    assert.deepEqual(toTensorFile(STATE, arrays(0)).metadata, {
      format: 'lockstep-resnet',
      global_step: '12',
      epochs: '3',
      call_epochs: '2',
      step: '5',
      batch_size: '8',
      seed: '4294967295',
      updates: '12',
      current_loss_scale: String(2 ** -30),
      good_steps: '1999',
      fine_tune: 'false',
      resnet_size: '8',
      resnet_version: '2',
    });
  });
});

describe('a state without the number of updates', () => {
  it('as version 0.1 wrote it, has made as many as it has global steps', () => {
    const { updates: _, ...old } = toTensorFile(STATE, arrays(0)).metadata;
    assert.deepEqual(stateOf(old).scalars, STATE.scalars);
  });
});

describe('a checkpoint of TensorFlow’s own', () => {
  const metadata = { origin: 'tensorflow', global_step: '25', resnet_size: '8', resnet_version: '2' };

  it('has a step and a network, and its place among epochs follows from the step', () => {
    const state = stateOf(metadata);
    assert.deepEqual([state.isForeign, state.model, state.scalars], [true, { size: 8, version: 2 }, { updates: 25 }]);
    // 25 steps of 8 are 200 of 90 images: two epochs, and some.
    const position = { globalStep: 25, epochs: 2, callEpochs: 0, step: 0, batchSize: 1 };
    assert.deepEqual(placeOf(state, 90, 8), position);
    assert.deepEqual(placeOf(STATE, 90, 8), STATE.position);
  });

  it('may have slots, of all variables or of some; those that it does not have stay', () => {
    const whole = toTensorFile(STATE, arrays(0));
    const { 'resnet_model/conv2d/kernel/momentum': _, ...tensors } = whole.tensors;
    const read = arrays(1000);
    fillArrays({ path: 'model.ckpt', tensors, metadata }, read, STATE.model);
    const [weights, slots] = [values(arrays(0)), values(read)];
    assert.deepEqual(slots[0], weights[0]);
    assert.deepEqual(slots[1], [1100, 1101, 1102, 1103, 1104, 1105, 106, 107]);
    // One of ours is to have them all.
    assert.throws(
      () => fillArrays({ path: 'ckpt', tensors, metadata: whole.metadata }, arrays(0), STATE.model),
      /Checkpoint ckpt has nothing for resnet_model\/conv2d\/kernel\/momentum, expected 6/,
    );
  });
});

describe('a run’s arrays', () => {
  it('come back, each under its name', () => {
    const saved = file(STATE, arrays(0));
    assert.deepEqual(Object.keys(saved.tensors), [
      'resnet_model/conv2d/kernel',
      'resnet_model/dense/kernel',
      'resnet_model/conv2d/kernel/momentum',
      'resnet_model/dense/kernel/momentum',
      'resnet_model/batch_normalization/moving_mean',
    ]);
    const into = arrays(1000);
    fillArrays(saved, into, STATE.model);
    assert.deepEqual(values(into), values(arrays(0)));
  });

  it('of fine tuning have momenta of the dense layer alone; training all goes on without the others', () => {
    const tuned = file({ ...STATE, fineTune: true }, arrays(0, true));
    assert.ok(!('resnet_model/conv2d/kernel/momentum' in tuned.tensors));
    const into = arrays(1000);
    into.trained.slots.momentum?.fill(0);
    fillArrays(tuned, into, STATE.model);
    assert.deepEqual([...into.trained.weights], [200, 201, 202, 203, 204, 205, 0, 1]);
    assert.deepEqual([...(into.trained.slots.momentum as Float32Array)], [0, 0, 0, 0, 0, 0, 100, 101]);
  });

  it('of a warm start are all but the dense layer’s', () => {
    const into = arrays(1000);
    fillForWarmStart(file(STATE, arrays(0)), into);
    assert.deepEqual([...into.trained.weights], [0, 1, 2, 3, 4, 5, 1006, 1007]);
    assert.deepEqual(
      [...(into.trained.slots.momentum as Float32Array)],
      [...(arrays(1000).trained.slots.momentum as Float32Array)],
    );
    assert.deepEqual([...into.statistics.values], [300, 301, 302]);
  });

  it('of another network are refused with the variable and what to do', () => {
    const saved = file(STATE, arrays(0));
    const { 'resnet_model/dense/kernel': _, ...tensors } = saved.tensors;
    assert.throws(
      () => fillArrays({ ...saved, tensors }, arrays(0), { size: 14, version: 1 }),
      (error: Error) =>
        error instanceof CheckpointError &&
        error.message ===
          'Checkpoint ckpt has nothing for resnet_model/dense/kernel, expected 2: it is of ResNet-8 v2, this run trains ResNet-14 v1.\n' +
            'help: another --model_dir, or --clean to start over; --resnet_size=8 --resnet_version=2 goes on with it.',
    );
  });

  it('are looked through for what is not finite', () => {
    const all = arrays(0, true);
    assert.equal(findNonFinite(all), null);
    all.statistics.values[1] = Number.POSITIVE_INFINITY;
    assert.deepEqual(findNonFinite(all), {
      name: 'resnet_model/batch_normalization/moving_mean',
      value: Number.POSITIVE_INFINITY,
    });
    all.frozen.values[5] = Number.NaN;
    assert.deepEqual(findNonFinite(all), { name: 'resnet_model/conv2d/kernel', value: Number.NaN });
  });
});
