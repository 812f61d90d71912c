/** What event files get beside a step's figures, against values by hand. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type DeviceDescription, listDevices, soloContext } from '@lockstep/distribute';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { HistogramCollector, inputPictures } from './run-summary.js';

const [device] = listDevices({ numCpus: 1 }) as [DeviceDescription];

describe('histograms', () => {
  it('are of every so many steps: weights after the step, gradients without the loss scale', async () => {
    const weights = tf.variable(tf.tensor1d([1, 1, 1]), true, 'kernel');
    const lossScale = 8;
    const trainer = soloContext({ device }).trainer([weights], { optimizer: { kind: 'sgd' }, lossScale });
    const collector = new HistogramCollector(trainer, 2);
    const loss = () => tf.sum(tf.mul(weights, [1, 2, -4])) as tf.Scalar;
    const found: string[] = [];
    for (let step = 1; step <= 4; step++) {
      collector.before(step, () => lossScale);
      await trainer.step(loss, 0.5);
      for (const [tag, { num, min, max, sum }] of Object.entries(collector.after() ?? {})) {
        found.push(`${step} ${tag} ${[num, min, max, sum]}`);
      }
    }
    // Each step takes half of the gradient away.
    assert.deepEqual(found, [
      '2 weights/kernel 3,-1,5,4',
      '2 gradients/kernel 3,-4,2,-1',
      '4 weights/kernel 3,-3,9,5',
      '4 gradients/kernel 3,-4,2,-1',
    ]);
  });

  it('are never made where nobody wants them', () => {
    const collector = new HistogramCollector({ watchGradients: assert.fail } as never, 0);
    collector.before(100, assert.fail);
    assert.equal(collector.after(), null);
  });
});

describe('pictures of the input', () => {
  it('are the first six of the batch, from its darkest to its brightest pixel', () => {
    const images = Float32Array.from({ length: 8 * 2 }, (_, i) => (i % 2 === 0 ? -1 : Math.floor(i / 2)));
    const batch = { images, labels: new Int32Array(8), size: 8 };
    const pictures = inputPictures(batch, [1, 2, 1]);
    assert.equal(pictures.length, 6);
    assert.deepEqual(pictures[5], { shape: [1, 2, 1], pixels: Uint8Array.of(0, 255) });
    assert.equal(inputPictures({ ...batch, images: images.subarray(0, 4), size: 2 }, [1, 2, 1]).length, 2);
  });
});
