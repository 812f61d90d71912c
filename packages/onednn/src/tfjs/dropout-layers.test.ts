/**
 * Dropout draws its masks in a kernel: a share of the elements that the binomial distribution allows, other ones in every run,
 * replays of a recorded step among them. With a seed the bits are those of TensorFlow.js' `cpu`.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { layers, sequential } from '@tensorflow/tfjs-layers';
import type { OneDnnBackend } from '../backend.js';
import { BACKEND_NAME } from '../kernels/kernel.js';
import { runOn } from '../testing/backend.js';

await tf.setBackend(BACKEND_NAME);
const backend = tf.backend() as OneDnnBackend;
const SIZE = 40_000;

/** Asserts that the elements are 0 or `scale`, as many as chance allows: six standard deviations of the binomial. */
function assertMask(mask: ArrayLike<number>, rate: number): void {
  const scale = Math.fround(1 / Math.fround(1 - rate));
  let kept = 0;
  for (let i = 0; i < mask.length; i++) {
    if (mask[i] !== 0) assert.equal(mask[i], scale);
    if (mask[i] !== 0) kept++;
  }
  const expected = mask.length * (1 - rate);
  const deviation = Math.sqrt(mask.length * rate * (1 - rate));
  assert.ok(Math.abs(kept - expected) <= 6 * deviation, `${kept} of ${mask.length} kept at rate ${rate}`);
}

/** How many pairs of elements `lag` apart are both kept, in standard deviations from what independence gives. */
function dependence(mask: ArrayLike<number>, keep: number, lag: number): number {
  let both = 0;
  const pairs = mask.length - lag;
  for (let i = 0; i < pairs; i++) if (mask[i] !== 0 && mask[i + lag] !== 0) both++;
  const p = keep * keep;
  return (both - pairs * p) / Math.sqrt(pairs * p * (1 - p));
}

describe('tf.layers.dropout', () => {
  it('keeps the share that its rate says, scaled, of elements that do not depend on each other', async () => {
    for (const rate of [0.1, 0.5, 0.75]) {
      const ones = tf.ones([200, SIZE / 200]);
      const layer = layers.dropout({ rate });
      const { kernelNames, result } = await tf.profile(() => layer.apply(ones, { training: true }) as tf.Tensor);
      assert.ok(kernelNames.includes('DropoutMask'));
      const mask = (result as tf.Tensor).dataSync();
      assertMask(mask, rate);
      for (const lag of [1, 2, 3, 200]) assert.ok(Math.abs(dependence(mask, 1 - rate, lag)) < 8, `lag ${lag}`);
      assert.notDeepEqual((layer.apply(ones, { training: true }) as tf.Tensor).dataSync(), mask);
      assert.deepEqual((layer.apply(ones) as tf.Tensor).dataSync(), ones.dataSync(), 'not in training');
    }
  });

  it('passes the gradient where it passed the value', () => {
    const x = tf.fill([50, 20], 2);
    const layer = layers.dropout({ rate: 0.4 });
    let y: Float32Array = new Float32Array();
    const [dx] = tf.grads((a) => {
      const dropped = layer.apply(a, { training: true }) as tf.Tensor;
      y = dropped.dataSync() as Float32Array;
      return tf.sum(dropped);
    })([x]) as [tf.Tensor];
    assertMask(dx.dataSync(), 0.4);
    for (const [i, value] of dx.dataSync().entries()) assert.equal(Math.fround(value * 2), y[i]);
  });

  it('drops whole rows or channels where the noise has another shape', () => {
    const x = tf.ones([64, 30, 5]);
    const rows = layers.dropout({ rate: 0.5, noiseShape: [null as unknown as number, 1, 5] });
    for (const layer of [rows, layers.spatialDropout1d({ rate: 0.5 })]) {
      const y = layer.apply(x, { training: true }) as tf.Tensor3D;
      const first = tf.slice(y, [0, 0, 0], [64, 1, 5]);
      assertMask(first.dataSync(), 0.5);
      assert.deepEqual(y.dataSync(), tf.tile(first, [1, 30, 1]).dataSync());
    }
  });

  it("with a seed has the bits of TensorFlow.js' cpu", async () => {
    const compute = () => [
      layers.dropout({ rate: 0.3, seed: 5 }).apply(tf.ones([40, 7]), { training: true }) as tf.Tensor,
    ];
    const [expected] = await runOn('cpu', compute);
    const [actual] = await runOn(BACKEND_NAME, compute);
    assert.deepEqual(actual, expected);
  });
});

describe('a recorded step with dropout', () => {
  it('draws another mask in every replay', () => {
    const x = tf.keep(tf.ones([200, 50]));
    const layer = layers.dropout({ rate: 0.5 });
    const output = new Float32Array(x.size);
    let calls = 0;
    const program = backend.program();
    const seen = new Set<string>();
    for (let i = 0; i < 12; i++) {
      program.run(() => {
        calls++;
        tf.tidy(() => void backend.readInto((layer.apply(x, { training: true }) as tf.Tensor).dataId, output));
      });
      assertMask(output, 0.5);
      seen.add(output.join());
    }
    assert.equal(program.state, 'recorded', `${program.refusal}`);
    assert.equal(calls, 4);
    assert.equal(seen.size, 12);
    program.dispose();
    x.dispose();
  });

  it('is what model.fit runs', async () => {
    const said: string[] = [];
    const before = backend.runtime.onProgram;
    backend.runtime.onProgram = (text) => said.push(text);
    const model = sequential({
      layers: [
        layers.dense({ units: 32, inputShape: [4], activation: 'relu' }),
        layers.dropout({ rate: 0.25 }),
        layers.dense({ units: 1 }),
      ],
    });
    model.compile({ optimizer: tf.train.sgd(0.05), loss: 'meanSquaredError' });
    const x = tf.randomNormal([256, 4], 0, 1, 'float32', 3);
    const y = tf.sum(x, 1, true);
    try {
      const { history } = await model.fit(x, y, { epochs: 15, batchSize: 32, shuffle: false, verbose: 0 });
      const loss = history.loss as number[];
      assert.match(said.join('\n'), /recorded, \d+ operations/);
      assert.doesNotMatch(said.join('\n'), /not recordable/);
      assert.ok((loss.at(-1) as number) < 0.3 * (loss[0] as number), `losses ${loss}`);
    } finally {
      backend.runtime.onProgram = before;
      model.dispose();
      tf.dispose([x, y]);
    }
  });
});
