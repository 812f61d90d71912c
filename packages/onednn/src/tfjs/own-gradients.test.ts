/**
 * `import '@tensorflow/tfjs'` after this backend, as far as gradients are concerned: it registers TensorFlow.js' whole list
 * again. What is in use afterwards is what was in use before.
 */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
// Registers the list, as @tensorflow/tfjs does.
import '@tensorflow/tfjs-layers';

type Registry = Map<string, tf.GradConfig>;
const registry = (globalThis as unknown as { _tfGlobals: Map<string, Registry> })._tfGlobals.get(
  'gradRegistry',
) as Registry;
/** TensorFlow.js' list in its order, as copies: another package's configurations are other objects. */
const theirs = [...registry.values()].map((config) => ({ ...config }));
const plain = new Map(registry);

describe("TensorFlow.js' gradients, registered after this backend's", () => {
  let ours: Registry;
  before(async () => {
    await import('../index.js');
    await tf.setBackend('onednn');
    ours = new Map(registry);
    for (const config of theirs) tf.registerGradient(config);
  });

  it('leave ours where they are, and replace the others', () => {
    const changed = [...plain.keys()].filter((name) => ours.get(name) !== plain.get(name));
    for (const name of ['Relu', 'Sigmoid', 'Tanh', 'BatchMatMul']) assert.ok(changed.includes(name), name);
    for (const name of changed) assert.equal(registry.get(name), ours.get(name), name);
    for (const config of theirs) {
      if (!changed.includes(config.kernelName)) assert.equal(registry.get(config.kernelName), config);
    }
    assert.deepEqual([...registry.keys()].sort(), [...ours.keys()].sort());
  });

  it('so that the same kernels run, and batches that broadcast can be trained', async () => {
    for (const [operation, kernel] of [
      [tf.tanh, 'TanhGrad'],
      [tf.relu, 'ReluGrad'],
      [tf.sigmoid, 'SigmoidGrad'],
    ] as const) {
      const gradient = tf.grad((x) => tf.sum(operation(x)));
      const { kernelNames } = await tf.profile(() => gradient(tf.ones([4])));
      assert.ok(kernelNames.includes(kernel), `${kernel} among ${kernelNames}`);
    }
    const [gradient] = tf.grads((a, b) => tf.sum(tf.matMul(a, b)))([tf.ones([1, 3, 4]), tf.ones([5, 4, 2])]);
    // Σ over 5 batches and 2 columns.
    assert.deepEqual(Array.from(gradient?.dataSync() ?? []), new Array(12).fill(10));
  });

  it("but a gradient of a user's own is accepted", () => {
    const own: tf.GradConfig = { kernelName: 'Tanh', gradFunc: (dy) => ({ x: () => tf.mul(dy as tf.Tensor, 7) }) };
    tf.registerGradient(own);
    assert.deepEqual(
      Array.from(
        tf
          .grad((x) => tf.tanh(x))(tf.ones([2]))
          .dataSync(),
      ),
      [7, 7],
    );
    tf.registerGradient(ours.get('Tanh') as tf.GradConfig);
    tf.unregisterGradient('Tanh');
    assert.equal(tf.getGradient('Tanh'), undefined);
    tf.registerGradient(own);
    assert.equal(tf.getGradient('Tanh'), own);
  });
});
