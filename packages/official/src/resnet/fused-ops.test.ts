/** What the fused operations keep for their gradients. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { batchNormTraining } from './fused-ops.js';

const NAMES = ['FusedBatchNormV3', 'FusedBatchNormGradV3'] as const;

before(() => tf.setBackend('cpu'));

/** Buffers that go when the result of a batch norm is disposed before its gradient is computed. */
function freedWithResult(relu: boolean): number {
  let freed = Number.NaN;
  tf.tidy(() => {
    const [x, scale, offset] = [tf.ones([2, 3, 3, 4]), tf.ones([4]), tf.zeros([4])];
    const gradient = tf.grad((input) => {
      const options = { epsilon: 1e-3, relu };
      const y = batchNormTraining(input as tf.Tensor4D, scale as tf.Tensor1D, offset as tf.Tensor1D, options, () => {});
      // The gradient of a negation needs nothing of what it negates.
      const sum = tf.sum(tf.neg(y));
      const { numDataBuffers } = tf.memory();
      y.dispose();
      freed = numDataBuffers - tf.memory().numDataBuffers;
      return sum;
    });
    gradient(x);
  });
  return freed;
}

test('a batch norm keeps its result for its gradient only where ReLU cut it', () => {
  const channel = () => tf.zeros([4]);
  // A backend that has batch norm in one piece; what it computes does not matter here.
  const kernelFunc = (() => [tf.zeros([2, 3, 3, 4]), channel(), channel()]) as unknown as tf.KernelFunc;
  for (const kernelName of NAMES) tf.registerKernel({ kernelName, backendName: 'cpu', kernelFunc });
  try {
    assert.equal(freedWithResult(false), 1);
    assert.equal(freedWithResult(true), 0);
  } finally {
    for (const kernelName of NAMES) tf.unregisterKernel(kernelName, 'cpu');
  }
});
