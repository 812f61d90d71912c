/**
 * Recorded steps: a replay computes what TensorFlow.js would, and what cannot be replayed is not. The reference is the same step
 * run by TensorFlow.js on the same backend, whose kernels have tests of their own; results are equal bit by bit.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { OneDnnBackend } from '../backend.js';
import { recordable } from '../kernels/fallback.js';
import { BACKEND_NAME } from '../kernels/kernel.js';
import { run, sample, toTensor } from '../testing/backend.js';

await tf.setBackend(BACKEND_NAME);
const backend = tf.backend() as OneDnnBackend;

/** A small network with what a ResNet is made of; its step leaves loss and gradients in arrays. */
class Network {
  readonly images = tf.keep(toTensor(sample([4, 8, 8, 3], 7)) as tf.Tensor4D);
  readonly labels = tf.keep(tf.tensor1d([0, 1, 2, 1], 'int32'));
  readonly variables = [
    tf.variable(toTensor(sample([3, 3, 3, 16], 1))),
    tf.variable(toTensor(sample([3, 3, 16, 16], 2))),
    tf.variable(tf.ones([16])),
    tf.variable(tf.zeros([16])),
    tf.variable(toTensor(sample([16, 3], 3))),
  ];
  readonly results = [1, ...this.variables.map(({ size }) => size)].map((size) => new Float32Array(size));
  calls = 0;

  loss(): tf.Scalar {
    const [first, second, gamma, beta, dense] = this.variables as tf.Tensor[];
    const x = tf.conv2d(this.images, first as tf.Tensor4D, 1, 'same');
    const normalize = tf.customGrad((a, b, c, save) => {
      const inputs = { x: a as tf.Tensor, scale: b as tf.Tensor, offset: c as tf.Tensor };
      const attrs = { epsilon: 1e-3, activation: 'relu' };
      const [y, mean, variance] = run('FusedBatchNormV3', inputs, attrs) as [tf.Tensor, tf.Tensor, tf.Tensor];
      (save as tf.GradSaveFunc)([a as tf.Tensor, b as tf.Tensor, y, mean, variance]);
      const gradFunc = (dy: tf.Tensor, [sx, scale, sy, m, v]: tf.Tensor[]) =>
        run('FusedBatchNormGradV3', { dy, x: sx, scale, y: sy, mean: m, variance: v } as never, attrs);
      return { value: y, gradFunc: gradFunc as never };
    });
    const h = tf.conv2d(
      normalize(x, gamma as tf.Tensor, beta as tf.Tensor) as tf.Tensor4D,
      second as tf.Tensor4D,
      1,
      'same',
    );
    const sum = tf.relu(tf.add(tf.maxPool(tf.add(h, x), 2, 2, 'valid'), 0.25));
    const pooled = tf.reshape(tf.avgPool(sum as tf.Tensor4D, [4, 4], 1, 'valid'), [4, 16]);
    const logits = tf.matMul(pooled, dense as tf.Tensor2D);
    return tf.losses.softmaxCrossEntropy(tf.oneHot(this.labels, 3), logits) as tf.Scalar;
  }

  step = (): void => {
    this.calls++;
    tf.tidy(() => {
      const { value, grads } = tf.variableGrads(() => this.loss(), this.variables);
      for (const [i, tensor] of [value, ...this.variables.map(({ name }) => grads[name] as tf.Tensor)].entries()) {
        backend.readInto(tensor.dataId, this.results[i] as Float32Array);
      }
    });
  };

  /** Fresh images, where the old ones lie. */
  feed(seed: number): void {
    const { values } = sample([4, 8, 8, 3], seed);
    (backend.storage(this.images).view() as Float32Array).set(values as Float32Array);
  }

  /** What TensorFlow.js computes of what is fed. */
  expected(): Float32Array[] {
    this.step();
    return this.results.map((values) => values.slice());
  }

  dispose(): void {
    tf.dispose([this.images, this.labels, ...this.variables]);
  }
}

function assertSame(network: Network, expected: readonly Float32Array[], what: string): void {
  for (const [i, values] of network.results.entries()) assert.deepEqual(values, expected[i], `${what}, result ${i}`);
}

describe('a recorded step', () => {
  for (const precision of ['f32', 'bf16'] as const) {
    const skip = precision === 'bf16' && !backend.runtime.hasBf16 && 'this CPU has no bf16 instructions';
    it(`computes on new data what TensorFlow.js computes (${precision})`, { skip }, () => {
      backend.precision = precision;
      const network = new Network();
      const program = backend.program();
      try {
        for (let i = 0; i < 12; i++) {
          network.feed(100 + i);
          const expected = network.expected();
          for (const values of network.results) values.fill(Number.NaN);
          const { calls } = network;
          program.run(network.step);
          assertSame(network, expected, `run ${i}`);
          assert.equal(network.calls - calls, i < 4 ? 1 : 0, `run ${i} called the step`);
          assert.equal(program.state, i < 3 ? 'warming up' : 'recorded', `${program.refusal}`);
        }
        assert.ok(program.length > 20);
        network.feed(1);
        const one = network.expected()[0]?.[0];
        network.feed(2);
        assert.notEqual(network.expected()[0]?.[0], one, 'other data, another loss');
      } finally {
        program.dispose();
        network.dispose();
        backend.precision = 'f32';
      }
    });
  }

  it('costs next to nothing where a variable is assigned in every step', () => {
    const network = new Network();
    const said: string[] = [];
    backend.runtime.onProgram = (text) => said.push(text);
    const program = backend.program();
    const weights = network.variables[4] as tf.Variable;
    for (let i = 0; i < 600; i++) {
      program.run(network.step);
      tf.tidy(() => weights.assign(tf.mul(weights, 0.999)));
    }
    backend.runtime.onProgram = () => {};
    assert.ok(said.length >= 4 && said.length <= 8, `${said.length} recordings in 600 steps`);
    assert.equal(backend.runtime.programs.size, 0, 'no memory is held between them');
    program.dispose();
    network.dispose();
  });

  it('reads weights that were changed in place, and is recorded anew when a variable is assigned', () => {
    const network = new Network();
    const program = backend.program();
    for (let i = 0; i < 6; i++) program.run(network.step);
    const weights = network.variables[4] as tf.Variable;
    (backend.storage(weights).view() as Float32Array)[0] = 3;
    const changed = network.expected();
    program.run(network.step);
    assertSame(network, changed, 'changed in place');
    const { calls } = network;
    for (let round = 0; round < 6; round++) {
      const value = toTensor(sample([16, 3], 40 + round));
      weights.assign(value);
      value.dispose();
      const expected = network.expected();
      for (let i = 0; i < 4; i++) {
        program.run(network.step);
        assertSame(network, expected, `assigned ${round}, run ${i}`);
      }
    }
    assert.ok(network.calls > calls + 6);
    assert.equal(program.state, 'warming up', 'after recordings in vain it waits');
    const waited = network.calls;
    for (let i = 0; i < 100; i++) program.run(network.step);
    assert.equal(program.state, 'recorded', 'what is no longer assigned is recorded after all');
    assert.ok(network.calls < waited + 60, `${network.calls - waited} runs`);
    program.dispose();
    network.dispose();
  });

  it('leaves memory alone that others have got meanwhile', () => {
    const network = new Network();
    const program = backend.program();
    for (let i = 0; i < 5; i++) program.run(network.step);
    // More tensors than the step has, of its sizes: a replay that shared the pool's memory would write to some.
    const others = Array.from({ length: 30 }, (_, i) => tf.add(tf.fill([4, 8, 8, 16], i), 0.5));
    for (let i = 0; i < 3; i++) program.run(network.step);
    for (const [i, other] of others.entries()) {
      assert.ok(
        (other.dataSync() as Float32Array).every((value) => value === i + 0.5),
        `tensor ${i}`,
      );
    }
    tf.dispose(others);
    program.dispose();
    network.dispose();
  });

  it('makes no tensor and takes no memory', () => {
    const network = new Network();
    const program = backend.program();
    const { bytesInUse } = backend.runtime.pool.statistics();
    for (let i = 0; i < 5; i++) program.run(network.step);
    const { numTensors } = tf.memory();
    const before = backend.runtime.pool.statistics();
    for (let i = 0; i < 200; i++) program.run(network.step);
    assert.equal(tf.memory().numTensors, numTensors);
    assert.deepEqual(backend.runtime.pool.statistics(), before);
    program.dispose();
    const after = backend.runtime.pool.statistics();
    assert.ok(after.bytesFree < before.bytesFree, 'its memory is given back');
    assert.equal(after.bytesInUse, bytesInUse);
    network.dispose();
  });

  it('survives that compiled primitives and free memory are dropped', () => {
    const network = new Network();
    const program = backend.program();
    for (let i = 0; i < 5; i++) program.run(network.step);
    const expected = network.expected();
    backend.runtime.trim();
    assert.equal(program.state, 'warming up');
    for (let i = 0; i < 4; i++) {
      program.run(network.step);
      assertSame(network, expected, `run ${i}`);
    }
    assert.equal(program.state, 'recorded');
    program.dispose();
    network.dispose();
  });

  it('is run by TensorFlow.js where somebody wants to see its kernels', async () => {
    const network = new Network();
    const program = backend.program();
    for (let i = 0; i < 5; i++) program.run(network.step);
    const { kernelNames } = await tf.profile(() => {
      program.run(network.step);
      return tf.scalar(0);
    });
    assert.ok(kernelNames.includes('Conv2DBackpropFilter'));
    const { calls } = network;
    tf.env().set('DEBUG', true);
    try {
      program.run(network.step);
    } finally {
      tf.env().set('DEBUG', false);
    }
    assert.equal(network.calls, calls + 1, 'tf.enableDebugMode() looks at every kernel too');
    program.run(network.step);
    assert.equal(network.calls, calls + 1);
    assert.equal(program.state, 'recorded');
    program.dispose();
    network.dispose();
  });
});

describe('LOCKSTEP_RECORDING', () => {
  /** Runs `use` with the variable set. */
  async function withVariable(value: string, use: () => void | Promise<void>): Promise<void> {
    const before = process.env.LOCKSTEP_RECORDING;
    process.env.LOCKSTEP_RECORDING = value;
    try {
      await use();
    } finally {
      if (before === undefined) delete process.env.LOCKSTEP_RECORDING;
      else process.env.LOCKSTEP_RECORDING = before;
    }
  }

  it('0 leaves every step to TensorFlow.js, and the option goes before it', () =>
    withVariable('0', () => {
      for (const [options, expected] of [
        [{}, 'not recordable'],
        [{ recording: true }, 'warming up'],
      ] as const) {
        assert.equal(new OneDnnBackend(options).program().state, expected);
      }
    }));

  it('another value is an error that says what there is, also where a replica starts', () =>
    withVariable('off', async () => {
      const message = /LOCKSTEP_RECORDING=off is neither 0 nor 1\.\nhelp: 0 leaves/;
      assert.throws(() => new OneDnnBackend(), message);
      const { default: setup } = await import('../device/device.js');
      await assert.rejects(setup({ threads: 1, cores: [], device: 'cpu:0' }), message);
    }));
});

describe('a step that cannot be replayed', () => {
  const weights = tf.variable(toTensor(sample([8, 8], 5)));

  /** Runs `step` ten times; every run must call it. @returns why it is not recorded. */
  function refusalOf(step: () => void): string {
    const program = backend.program();
    let calls = 0;
    for (let i = 0; i < 10; i++) {
      program.run(() => {
        calls++;
        tf.tidy(step);
      });
    }
    assert.equal(calls, 10);
    assert.equal(program.state, 'not recordable');
    return program.refusal as string;
  }

  it('reads values in between', () => {
    assert.match(
      refusalOf(() => void tf.matMul(weights as tf.Tensor2D, weights as tf.Tensor2D).dataSync()),
      /values were read/,
    );
  });

  it('uses a kernel of TensorFlow.js whose result has a size that the data decide, or no numbers', () => {
    for (const step of [
      () => tf.unique(tf.reshape(tf.round(weights), [64])),
      () => tf.real(tf.mul(tf.complex(tf.mul(weights, 2), weights), tf.scalar(2))),
    ]) {
      assert.match(
        refusalOf(() => void step()),
        /for a kernel of TensorFlow\.js/,
      );
    }
  });

  it('uses a kernel of TensorFlow.js that gives something else every time', () => {
    const random: tf.KernelFunc = ({ inputs: { x }, backend: any }) => {
      const { shape, dtype, dataId } = x as tf.TensorInfo;
      const values = ((any as OneDnnBackend).data.get(dataId) as { values: Float32Array }).values;
      return {
        dataId: (any as OneDnnBackend).write(
          values.map(() => Math.random()),
          shape,
          dtype,
        ),
        shape,
        dtype,
      };
    };
    tf.registerKernel({ kernelName: 'Random', backendName: BACKEND_NAME, kernelFunc: recordable('Random', random) });
    assert.match(
      refusalOf(() => void run('Random', { x: weights })),
      /a second run computed something else/,
    );
    tf.unregisterKernel('Random', BACKEND_NAME);
  });

  it('uses a kernel of TensorFlow.js with an attribute that changes', () => {
    let count = 0;
    assert.match(
      refusalOf(() => void tf.multinomial(weights as tf.Tensor2D, 3, ++count)),
      /did not compute the same/,
    );
  });

  it('draws random numbers, or counts', () => {
    assert.match(
      refusalOf(() => void tf.mul(weights, tf.randomUniform([8, 8]))),
      /did not compute the same/,
    );
    let count = 0;
    assert.match(
      refusalOf(() => void tf.mul(weights, count++)),
      /did not compute the same/,
    );
    assert.match(
      refusalOf(() => void tf.clipByValue(weights, 0, count++)),
      /did not compute the same/,
    );
    assert.match(
      refusalOf(() => void tf.mul(weights, tf.fill([8, 8], count++))),
      /did not compute the same/,
    );
  });

  it('grows', () => {
    let times = 0;
    assert.match(
      refusalOf(() => {
        times++;
        for (let i = 0; i < times; i++) tf.mul(weights, weights);
      }),
      /did not compute the same/,
    );
  });
});

describe('what a recording found out about the data', () => {
  it('is found out again: a NaN that appears is seen in the same run, by the same recording', () => {
    const x = tf.keep(tf.add(tf.fill([64, 64], 0.5), 0)) as tf.Tensor2D;
    const values = backend.storage(x).view() as Float32Array;
    const output = new Float32Array(64 * 64);
    let calls = 0;
    const step = () => {
      calls++;
      tf.tidy(() => void backend.readInto(tf.relu(x).dataId, output));
    };
    const program = backend.program();
    for (let i = 0; i < 5; i++) program.run(step);
    assert.equal(program.state, 'recorded', `${program.refusal}`);
    assert.equal(calls, 4);
    values[3] = Number.NaN;
    program.run(step);
    assert.ok(Number.isNaN(output[3]), 'the NaN');
    assert.equal(output[2], 0.5);
    values[3] = -1;
    program.run(step);
    assert.equal(output[3], 0);
    assert.equal(calls, 4);
    program.dispose();
    x.dispose();
  });
});

describe('a recorded step under a memory cap', () => {
  it('gives its memory back before a tensor is refused', async () => {
    tf.registerBackend('capped', () => new OneDnnBackend({ maxBytes: 2 ** 20 }));
    tf.copyRegisteredKernels(BACKEND_NAME, 'capped');
    await tf.setBackend('capped');
    const capped = tf.backend() as OneDnnBackend;
    const weights = tf.keep(toTensor(sample([128, 128], 5)) as tf.Tensor2D);
    const output = new Float32Array(128 * 128);
    const step = () =>
      tf.tidy(() => void capped.readInto(tf.matMul(tf.matMul(weights, weights), tf.relu(weights)).dataId, output));
    const program = capped.program();
    for (let i = 0; i < 5; i++) program.run(step);
    assert.equal(program.state, 'recorded', `${program.refusal}`);
    const expected = output.slice();
    const large = tf.fill([220, 1024], 1);
    assert.equal(large.dataSync()[0], 1);
    assert.equal(program.state, 'warming up');
    large.dispose();
    output.fill(0);
    program.run(step);
    assert.deepEqual(output, expected);
    weights.dispose();
    await tf.setBackend(BACKEND_NAME);
    tf.removeBackend('capped');
  });
});
