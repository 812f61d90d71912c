/** How a backend's memory is reached: what is found out of one that says nothing, and what is taken of one that does. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { adoptHostAccess, copyValues, type HostAccess, hostAccess, observe, plainAccess } from './host-access.js';
import setCopying, { CopyingBackend, useBackend } from './testing/copying-device.js';
import setDistant from './testing/distant-device.js';

/** As WebGL: the array is kept until a kernel needs the tensor. */
class LateBackend extends CopyingBackend {
  override write(...[values, shape, dtype]: Parameters<MathBackendCPU['write']>): object {
    const dataId = super.write(values, shape, dtype);
    this.data.get(dataId).values = values;
    return dataId;
  }
}

let made = 0;
/** A backend of its own, whose kernels first take a tensor's data for themselves. */
async function useLate(): Promise<void> {
  const name = `late ${++made}`;
  const backend = new LateBackend();
  await useBackend(name, () => backend);
  const { kernelFunc } = tf.getKernel('Neg', name) as tf.KernelConfig;
  tf.unregisterKernel('Neg', name);
  tf.registerKernel({
    kernelName: 'Neg',
    backendName: name,
    kernelFunc: (call) => {
      const data = backend.data.get((call.inputs.x as tf.TensorInfo).dataId);
      data.values = (data.values as Float32Array).slice();
      return kernelFunc(call);
    },
  });
}

/** A `cpu` that hands over whatever this is. */
async function useCarrying(carried: unknown): Promise<void> {
  await useBackend(`carrying ${++made}`, () => Object.assign(new CopyingBackend(), { hostAccess: carried }));
}

afterEach(() => tf.setBackend('cpu'));

describe('a backend that hands nothing over', () => {
  test("TensorFlow.js' cpu: tensors and variables are the arrays that they are made of", async () => {
    await tf.setBackend('cpu');
    assert.equal(hostAccess().aliases, true);
    const values = Float32Array.of(1, 2);
    const tensor = tf.tensor1d(values);
    const variable = tf.variable(tf.zeros([2]));
    variable.assign(tensor);
    tensor.dispose();
    const doubled = () => [...tf.mul(variable, 2).dataSync()];
    assert.deepEqual(doubled(), [2, 4]);
    values[0] = 5;
    assert.deepEqual(doubled(), [10, 4]);
  });

  for (const [what, use] of [
    ['copies when a tensor is made', setCopying],
    ['copies when a kernel first reads it', useLate],
  ] as const) {
    test(`one that ${what} is found out, and leaks nothing`, async () => {
      await use();
      const { numTensors } = tf.memory();
      const access = hostAccess();
      assert.equal(access.aliases, false);
      assert.equal(hostAccess(), access);
      assert.equal(tf.memory().numTensors, numTensors);
    });
  }

  test('is read and written, whatever becomes of the array', async () => {
    await setCopying();
    const access = hostAccess();
    const variable = tf.variable(tf.zeros([2]));
    const values = Float32Array.of(1, 2);
    access.write(variable, values);
    values.fill(9);
    const target = new Float32Array(2);
    let landed = 0;
    access.read(variable, target, () => landed++);
    assert.equal(access.settled(), undefined);
    assert.deepEqual([...target, landed], [1, 2, 1]);
    observe([variable, tf.scalar(7)], (vector: Float32Array, scalar: Float32Array) => {
      assert.deepEqual([...vector, ...scalar], [1, 2, 7]);
      landed++;
    });
    assert.equal(landed, 2);
  });
});

describe('what is handed over', () => {
  test('by a backend, or by its module, which wins', async () => {
    const [own, ofModule] = [plainAccess(false), plainAccess(true)];
    await useCarrying(own);
    assert.equal(hostAccess(), own);
    adoptHostAccess(undefined, 'file:///device.js');
    assert.equal(hostAccess(), own);
    adoptHostAccess(ofModule, 'file:///device.js');
    assert.equal(hostAccess(), ofModule);
    // Another backend of this thread has nothing to do with it.
    await tf.setBackend('cpu');
    assert.notEqual(hostAccess(), ofModule);
  });

  test('and is none: an error says who did', async () => {
    await tf.setBackend('cpu');
    const { read: _, ...rest } = plainAccess(true);
    for (const [wrong, words] of [
      [true, 'true'],
      [null, 'null'],
      [rest, 'an object with members aliases, settled, write'],
    ] as const) {
      assert.throws(() => adoptHostAccess(wrong, 'file:///device.js'), {
        name: 'TypeError',
        message: new RegExp(
          `^The backend module file:///device\\.js hands over ${words} for its HostAccess\\.\nhelp: `,
        ),
      });
    }
    await useCarrying({ aliases: 1 });
    assert.throws(
      () => hostAccess(),
      /^TypeError: The backend 'carrying \d+' hands over an object with members aliases/,
    );
  });
});

describe('a device that cannot be read at once', () => {
  test('is read by the time it has settled; the tensor may be gone by then', async () => {
    adoptHostAccess(await setDistant(), 'file:///device.js');
    const access: HostAccess = hostAccess();
    const target = new Float32Array(2);
    const order: string[] = [];
    const tensor = tf.neg(tf.tensor1d([1, 2]));
    access.read(tensor, target, () => order.push('landed'));
    observe([tensor], ([first]: Float32Array) => order.push(`saw ${first}`));
    tensor.dispose();
    assert.deepEqual([...target, ...order], [0, 0]);
    await access.settled();
    assert.deepEqual([...target, ...order.sort()], [-1, -2, 'landed', 'saw -1']);
    assert.equal(access.settled(), undefined);
  });

  test('names the way out where nobody can wait', async () => {
    adoptHostAccess(await setDistant(), 'file:///device.js');
    assert.throws(
      () => copyValues(tf.neg(tf.tensor1d([1])), new Float32Array(1)),
      /^Error: The backend 'distant' hands out no tensor's values at once: .*\nhelp: train with context\.trainer\(\)/,
    );
  });
});
