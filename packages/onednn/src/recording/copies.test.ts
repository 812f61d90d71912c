/**
 * What a recorded step converts once for two passes, filters in bf16 and images: what is kept of them is of this replay, of the data as they
 * are, and gone with the recording. The reference is the same step without a recording, bit by bit.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { BACKEND_NAME } from '../kernels/kernel.js';
import type { PooledBuffer } from '../memory/pool.js';
import { sample, toTensor } from '../testing/backend.js';
import { Recorder } from './recorder.js';

await tf.setBackend(BACKEND_NAME);
const backend = tf.backend() as OneDnnBackend;
const { runtime } = backend;
const skip = !runtime.hasBf16 && 'this CPU has no bf16 instructions';
/** Runs of a program that TensorFlow.js makes, the last of which is recorded. */
const FIRST_RUNS = 4;

/** Two convolutions; the second one's filter is read by its data gradient, too. */
class Network {
  readonly images = tf.keep(toTensor(sample([2, 6, 6, 32], 7)) as tf.Tensor4D);
  readonly filters = [1, 2].map((seed) => tf.variable(toTensor(sample([3, 3, 32, 32], seed)) as tf.Tensor4D));
  readonly optimizer = tf.train.rmsprop(0.01);
  readonly results = [new Float32Array(9 * 32 * 32), new Float32Array(9 * 32 * 32), new Float32Array(2 * 6 * 6 * 32)];

  loss = (): tf.Scalar => {
    const [first, second] = this.filters as [tf.Variable<tf.Rank.R4>, tf.Variable<tf.Rank.R4>];
    const h = tf.conv2d(this.images, first, 1, 'same');
    return tf.mean(tf.square(tf.conv2d(h, second, 1, 'same')));
  };

  /** Leaves the gradients in `results`. */
  step = (): void => {
    tf.tidy(() => this.#read(tf.variableGrads(this.loss, this.filters).grads, null));
  };

  /** As {@link step}; then the weights move where they lie, and the second filter is read once more. */
  stepAndMove = (): void => {
    tf.tidy(() => {
      const { grads } = tf.variableGrads(this.loss, this.filters);
      this.optimizer.applyGradients(grads as Parameters<tf.Optimizer['applyGradients']>[0]);
      const second = this.filters[1] as tf.Variable<tf.Rank.R4>;
      this.#read(grads, tf.conv2dTranspose(this.images, second, [2, 6, 6, 32], 1, 'same'));
    });
  };

  #read(grads: tf.NamedTensorMap, last: tf.Tensor | null): void {
    const tensors = [...this.filters.map(({ name }) => grads[name] as tf.Tensor), ...(last ? [last] : [])];
    for (const [i, { dataId }] of tensors.entries()) backend.readInto(dataId, this.results[i] as Float32Array);
  }

  dispose(): void {
    tf.dispose([this.images, ...this.filters]);
    this.optimizer.dispose();
  }
}

/** How often f32 data of these dimensions (oneDNN's order) are converted to the layout and the type that convolutions read. */
function conversions(run: () => void, dims = [32, 32, 3, 3]): number {
  let count = 0;
  runtime.observer = ({ label, layouts: [from, to] }) => {
    if (label === `reorder [${dims}]` && from?.dataType === 'f32' && to?.dataType === backend.precision) count++;
  };
  try {
    run();
  } finally {
    runtime.observer = null;
  }
  return count;
}

describe('a filter that is kept in bf16', { skip }, () => {
  beforeEach(() => {
    backend.precision = 'bf16';
  });
  afterEach(() => {
    backend.precision = 'f32';
  });

  it('is converted once in a step, and in every replay', () => {
    const network = new Network();
    // Without a recording: both filters forward, and the second one backward.
    assert.equal(conversions(network.step), 3);
    const program = backend.program();
    for (let i = 0; i < FIRST_RUNS; i++) program.run(network.step);
    assert.equal(program.state, 'recorded', `${program.refusal}`);
    for (let i = 0; i < 3; i++) {
      for (const filter of network.filters) {
        const weights = backend.storage(filter).view() as Float32Array;
        for (let k = 0; k < weights.length; k++) weights[k] = (weights[k] as number) * -0.75;
      }
      network.step();
      const expected = network.results.map((values) => values.slice());
      for (const values of network.results) values.fill(Number.NaN);
      assert.equal(
        conversions(() => program.run(network.step)),
        2,
      );
      assert.deepEqual(network.results.slice(0, 2), expected.slice(0, 2));
    }
    program.dispose();
    network.dispose();
  });

  it('is converted again where the weights were changed within the step', () => {
    const [recorded, plain] = [new Network(), new Network()];
    const program = backend.program();
    for (let i = 0; i < FIRST_RUNS + 4; i++) {
      plain.stepAndMove();
      program.run(recorded.stepAndMove);
      assert.deepEqual(recorded.results, plain.results, `run ${i}`);
    }
    assert.equal(program.state, 'recorded', `${program.refusal}`);
    program.dispose();
    recorded.dispose();
    plain.dispose();
  });

  it('takes memory of the recording, which gives it back', () => {
    const network = new Network();
    const program = backend.program();
    const { bytesInUse } = runtime.pool.statistics();
    for (let i = 0; i < FIRST_RUNS; i++) program.run(network.step);
    const before = runtime.pool.statistics();
    assert.equal(before.bytesInUse, bytesInUse);
    for (let i = 0; i < 5; i++) program.run(network.step);
    assert.deepEqual(runtime.pool.statistics(), before);
    program.dispose();
    assert.equal(runtime.pool.statistics().bytesInUse, bytesInUse);
    network.dispose();
  });
});

it('images are converted once in a step that is recorded, for the forward pass and the weight gradient', () => {
  const images = tf.keep(toTensor(sample([4, 8, 8, 3], 5)) as tf.Tensor4D);
  const filter = tf.variable(toTensor(sample([3, 3, 3, 16], 6)) as tf.Tensor4D);
  const gradient = new Float32Array(filter.size);
  const step = () =>
    tf.tidy(() => {
      const { grads } = tf.variableGrads(() => tf.sum(tf.square(tf.conv2d(images, filter, 1, 'same'))), [filter]);
      backend.readInto((grads[filter.name] as tf.Tensor).dataId, gradient);
    });
  const program = backend.program();
  assert.equal(conversions(step, [4, 3, 8, 8]), 2);
  for (let i = 0; i < FIRST_RUNS; i++) program.run(step);
  assert.equal(program.state, 'recorded', `${program.refusal}`);
  for (let i = 0; i < 3; i++) {
    // Other images, where the old ones lie.
    (backend.storage(images).view() as Float32Array).set(sample([4, 8, 8, 3], 20 + i).values as Float32Array);
    step();
    const expected = gradient.slice();
    gradient.fill(Number.NaN);
    assert.equal(
      conversions(() => program.run(step), [4, 3, 8, 8]),
      1,
    );
    assert.deepEqual(gradient, expected);
  }
  program.dispose();
  tf.dispose([images, filter]);
});

it('what a branch converts is not kept: a replay may take the other one', () => {
  const recorder = new Recorder(false);
  const [storage, layout] = [{}, {}];
  const buffer = { address: 64 } as PooledBuffer;
  recorder.either(
    { holds: true },
    () => assert.equal(recorder.keepCopy(storage, layout, buffer), false),
    () => {},
  );
  assert.equal(recorder.copyOf(storage, layout), null);
  assert.equal(recorder.keepCopy(storage, layout, buffer), true);
  assert.equal(recorder.copyOf(storage, layout), 64);
  assert.equal(recorder.copyOf(storage, {}), null);
  recorder.changed(storage);
  assert.equal(recorder.copyOf(storage, layout), null);
});
