/**
 * `context.optimizer()` in the replicas' shared memory, against the same program alone on TensorFlow.js' `cpu`: all replicas have equal
 * data, so the mean of their gradients is one's. A user must not see the difference: not in results, not in tensors that were made
 * before a step, not in what is saved and loaded.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { type DeviceProvider, registerDeviceProvider } from '../devices/device.js';
import { mpirun, whyNoMpirun } from '../mpi/testing/mpirun.js';
import { MirroredStrategy } from '../strategy/mirrored-strategy.js';
import { type Distribute, OPTIMIZERS, SCENES, type UpdateResult, type UpdateTask } from './shared-update-replica.js';

const provider = process.env.LOCKSTEP_TEST_PROVIDER;
if (provider) registerDeviceProvider(((await import(provider)) as { deviceProvider: DeviceProvider }).deviceProvider);
/** TensorFlow.js' `cpu` cannot keep clones as they are when memory is written to, so nothing is shared there. */
const shares = provider !== undefined;

const replica = new URL('./shared-update-replica.js', import.meta.url);
const program = new URL('./program.js', import.meta.url);
const KNOWN = Object.keys(OPTIMIZERS).filter((kind) => kind !== 'adagrad');

function distributed(task: UpdateTask, replicas = 2): Promise<UpdateResult[]> {
  const devices = Array.from({ length: replicas }, (_, i) => `cpu:${i}`);
  return new MirroredStrategy({ devices, log: () => {} }).run<UpdateResult>(replica, task);
}

/** The scene alone, on TensorFlow.js' `cpu`, with engine and variables of its own. */
async function alone(task: UpdateTask, distribute: Distribute = (optimizer) => optimizer): Promise<UpdateResult> {
  await tf.setBackend('cpu');
  const before = new Set(Object.values(tf.engine().registeredVariables));
  try {
    return await (SCENES[task.scene] as (typeof SCENES)[string])(distribute, task);
  } finally {
    for (const variable of Object.values(tf.engine().registeredVariables))
      if (!before.has(variable)) variable.dispose();
  }
}

/** Relative to the largest number of each list. */
function assertClose(actual: readonly number[][], expected: readonly number[][], what: string, tolerance = 1e-5): void {
  assert.deepEqual(
    actual.map(({ length }) => length),
    expected.map(({ length }) => length),
    what,
  );
  for (const [i, list] of expected.entries()) {
    const scale = Math.max(...list.map(Math.abs), 1e-3);
    for (const [j, value] of list.entries()) {
      const error = Math.abs((actual[i]?.[j] as number) - value) / scale;
      assert.ok(error <= tolerance, `${what}: [${i}][${j}] is ${actual[i]?.[j]}, expected ${value}`);
    }
  }
}

function assertLike(result: UpdateResult, expected: UpdateResult, what: string, tolerance?: number): void {
  assertClose(result.weights, expected.weights, `${what}: weights`, tolerance);
  // TensorFlow.js tells layers of one name apart by '_1', '_2' while a thread lives.
  const names = ({ slots }: UpdateResult) => slots?.map(({ name }) => name.replace(/_\d+(?=\/)/, ''));
  assert.deepEqual(names(result), names(expected), what);
  const values = (slots: UpdateResult['slots']) => (slots ?? []).map((slot) => slot.values);
  assertClose(values(result.slots), values(expected.slots), `${what}: slots`, tolerance);
}

/** All replicas have the same bits. @returns the first one's */
function everywhere(results: readonly UpdateResult[]): UpdateResult {
  for (const result of results) assert.deepEqual(result, results[0]);
  return results[0] as UpdateResult;
}

describe('an optimizer of TensorFlow.js in shared memory', () => {
  for (const kind of Object.keys(OPTIMIZERS)) {
    it(`${kind}: weights and slots of 20 steps`, async () => {
      const task = { scene: 'train', kind };
      const expected = await alone(task);
      for (const replicas of [2, 3]) {
        const result = everywhere(await distributed(task, replicas));
        assertLike(result, expected, `${replicas} replicas`);
        assert.equal(result.isShared, shares && KNOWN.includes(kind), 'which path it took');
      }
    });
  }

  it('tensors that were made of a variable before a step keep their values', async () => {
    const result = everywhere(await distributed({ scene: 'kept' }));
    assert.equal(result.isShared, shares);
    const [[before], [clone, reshaped, slice, sum, data, promised, assigned]] = result.seen as [number[][], number[][]];
    assert.deepEqual(slice, before?.slice(3, 9));
    for (const kept of [clone, reshaped, sum, data, promised, assigned]) assert.deepEqual(kept, before);
    assertLike(result, await alone({ scene: 'kept' }), 'a weight was assigned on the way');
  });

  it('other optimizers, losses and lists of variables in between', async () => {
    assertLike(everywhere(await distributed({ scene: 'mixed' })), await alone({ scene: 'mixed' }), 'mixed');
  });

  for (const kind of ['momentum', 'adam', 'centered']) {
    it(`${kind}: saved, trained on, loaded and gone on with`, async () => {
      const result = everywhere(await distributed({ scene: 'resumed', kind }));
      assertLike(result, await alone({ scene: 'resumed', kind }), 'resumed');
      assertLike(result, await alone({ scene: 'train', kind, steps: 10 }), 'never interrupted');
    });
  }

  for (const kind of ['sgd', 'adam', 'rmsprop']) {
    it(`model.fit with ${kind}, and weights set back to the best`, async () => {
      const result = everywhere(await distributed({ scene: 'fit', kind }));
      const expected = await alone({ scene: 'fit', kind });
      assert.equal(result.isShared, shares);
      assertLike(result, expected, 'fit', 1e-4);
      assertClose([result.seen as number[]], [expected.seen as number[]], 'losses', 1e-4);
    });
  }

  it('no tensor is left over', async () => {
    const [after10, after40] = everywhere(await distributed({ scene: 'steady' })).seen as [number, number];
    assert.equal(after40, after10);
  });

  for (const [kind, name] of [
    ['slots', 'kernel/m'],
    ['iterations', 'iterations'],
  ] as const) {
    it(`${kind} that were loaded on one replica alone: an error that names the first`, async () => {
      const result = everywhere(await distributed({ scene: 'torn', kind }));
      const message = `Variable '${name}' is not the same on all replicas before the update in step 4: `;
      if (shares) assert.ok((result.seen as string).startsWith(message), result.seen as string);
    });
  }
});

/** The reference does what the options say by TensorFlow.js' own operations, around an optimizer that knows nothing of them. */
const byHand =
  ({ clip, accumulateSteps = 1, schedule }: NonNullable<UpdateTask['options']>): Distribute =>
  (optimizer) => {
    const apply = optimizer.applyGradients.bind(optimizer);
    let sums: Record<string, tf.Tensor> | null = null;
    let calls = 0;
    optimizer.applyGradients = (given) => {
      const gradients = Array.isArray(given)
        ? Object.fromEntries(given.map(({ name, tensor }) => [name, tensor]))
        : given;
      const before = sums;
      sums = Object.fromEntries(
        Object.entries(gradients).map(([name, gradient]) => [
          name,
          before ? tf.add(before[name] as tf.Tensor, gradient) : gradient.clone(),
        ]),
      );
      for (const sum of Object.values(sums)) tf.keep(sum);
      if (++calls % accumulateSteps !== 0) return;
      let means = Object.values(sums).map((sum) => tf.div(sum, accumulateSteps));
      if (clip && 'globalNorm' in clip) {
        const norm = tf.sqrt(tf.addN(means.map((mean) => tf.sum(tf.square(mean)))));
        means = means.map((mean) => tf.div(tf.mul(mean, clip.globalNorm), tf.maximum(norm, clip.globalNorm)));
      } else if (clip) means = means.map((mean) => tf.clipByValue(mean, -clip.value, clip.value));
      if (schedule) {
        const rate = 0.1 / calls;
        const settable = optimizer as unknown as { learningRate: number; setLearningRate?(rate: number): void };
        if (settable.setLearningRate) settable.setLearningRate(rate);
        else settable.learningRate = rate;
      }
      apply(Object.fromEntries(Object.keys(sums).map((name, i) => [name, means[i] as tf.Tensor])));
      sums = null;
    };
    return optimizer;
  };

describe('options of context.optimizer()', () => {
  for (const kind of ['momentum', 'adam', 'adagrad']) {
    for (const options of [
      { clip: { value: 0.05 } },
      { clip: { globalNorm: 0.2 } },
      { accumulateSteps: 4 },
      { schedule: true },
      { clip: { globalNorm: 0.1 }, accumulateSteps: 2 },
    ]) {
      it(`${kind} with ${JSON.stringify(options)}`, async () => {
        const task = { scene: 'train', kind, steps: 16, options };
        const expected = await alone(task, byHand(options));
        const plain = await alone({ scene: 'train', kind, steps: 16 });
        assert.notDeepEqual(expected.weights, plain.weights, 'the option does something here');
        for (const replicas of [1, 2])
          assertLike(everywhere(await distributed(task, replicas)), expected, `${replicas}`, 3e-5);
      });
    }
  }

  it('what makes no sense is refused, and named', async () => {
    const attempt = async (options: object) => {
      try {
        await distributed({ scene: 'train', options: options as never });
        return 'taken';
      } catch (error) {
        return (error as Error).message;
      }
    };
    assert.match(await attempt({ clip: { norm: 1 } }), /clip must be \{ value \} or \{ globalNorm \}/);
    assert.match(await attempt({ clip: { value: 0 } }), /clip\.value must be a number above 0, got 0/);
    assert.match(await attempt({ accumulateSteps: 1.5 }), /accumulateSteps must be a positive integer, got 1\.5/);
    assert.match(await attempt({ learningRate: 0.1 }), /learningRate of context\.optimizer\(\) must be a function/);
  });
});

describe('between processes', { skip: whyNoMpirun() }, () => {
  for (const task of [
    { scene: 'train', kind: 'adam' },
    { scene: 'train', kind: 'momentum', options: { clip: { globalNorm: 0.2 }, accumulateSteps: 2 } },
    { scene: 'kept' },
    { scene: 'mixed' },
    { scene: 'fit', kind: 'adam' },
  ] as UpdateTask[]) {
    it(JSON.stringify(task), async () => {
      const args = ['shared-update', 'multi-worker', '2', '{}', JSON.stringify(task)];
      const result = await mpirun(2, program, { args });
      const results = (result.results as UpdateResult[][]).flat();
      assert.equal(results.length, 4, result.describe());
      assertLike(everywhere(results), await alone(task, task.options && byHand(task.options)), 'processes', 1e-4);
    });
  }
});
