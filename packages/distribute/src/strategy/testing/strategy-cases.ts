/**
 * What every strategy must do, whatever its devices: one list of cases, run for each implementation by its own test file.
 *
 * Reductions are checked against plain loops in f64, training against one thread that averages the replicas' gradients by
 * hand with `tf.variableGrads`, a way that this package does not use.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { allowedCpus } from '../../host/affinity.js';
import type { Strategy } from '../strategy.js';
import { batch, numbers, tinyModel } from './replicas.js';

/** Module of the replica functions that the cases run. */
export const scenes = new URL('./replicas.js', import.meta.url);

interface Trained {
  readonly weights: number[];
  readonly variables: number[][];
  readonly statistics: number[][];
  readonly losses: number[];
  readonly tensors: number[];
  readonly decayLoss: number;
}

export interface Recipe {
  readonly steps: number;
  readonly learningRate: number;
  readonly momentum?: number;
  readonly nesterov?: boolean;
  readonly weightDecay?: number;
  readonly batchNorm?: boolean;
}

/** Plain reference: every replica's gradients on one thread, averaged in f64, update in f64. */
export async function trainByHand(
  replicas: number,
  recipe: Recipe,
): Promise<{ variables: number[][]; statistics: number[]; losses: number[] }> {
  await tf.setBackend('cpu');
  const { learningRate, momentum = 0, nesterov = false, weightDecay = 0, batchNorm = false } = recipe;
  // Replica 0's initial values are everybody's; the moving statistics are each replica's own.
  const models = Array.from({ length: replicas }, () => tinyModel(7, batchNorm));
  const weights = (models[0] as (typeof models)[0]).trainable.map((variable) => Float64Array.from(variable.dataSync()));
  const velocity = weights.map((values) => new Float64Array(values.length));
  const losses: number[] = [];
  for (let step = 0; step < recipe.steps; step++) {
    const mean = weights.map((values) => new Float64Array(values.length));
    let total = 0;
    for (const [replica, model] of models.entries()) {
      const { x, labels } = batch(step, replica);
      const { value, grads } = tf.variableGrads(() => model.loss(x, labels), model.trainable);
      total += (value.dataSync()[0] as number) / replicas;
      for (const [i, variable] of model.trainable.entries()) {
        const gradient = (grads[variable.name] as tf.Tensor).dataSync();
        for (const [k, g] of gradient.entries()) (mean[i] as Float64Array)[k]! += g / replicas;
      }
      tf.dispose([x, labels, value, grads]);
    }
    losses.push(total);
    for (const [i, values] of weights.entries()) {
      const isMatrix = ((models[0] as (typeof models)[0]).trainable[i] as tf.Variable).shape.length > 1;
      for (const [k, w] of values.entries()) {
        const g = ((mean[i] as Float64Array)[k] as number) + (isMatrix ? weightDecay * w : 0);
        const v = momentum * ((velocity[i] as Float64Array)[k] as number) + g;
        (velocity[i] as Float64Array)[k] = v;
        values[k] = w - learningRate * (nesterov ? g + momentum * v : v);
      }
    }
    for (const model of models) {
      for (const [i, variable] of model.trainable.entries()) {
        const tensor = tf.tensor(Float32Array.from(weights[i] as Float64Array), variable.shape);
        variable.assign(tensor);
        tensor.dispose();
      }
    }
  }
  const statistics = models.map((model) => [...(model.statistics[0] as tf.Variable).dataSync()]);
  for (const model of models) model.dispose();
  return {
    variables: weights.map((values) => [...values]),
    statistics: (statistics[0] as number[]).map(
      (_, k) => statistics.reduce((sum, one) => sum + (one[k] as number), 0) / replicas,
    ),
    losses,
  };
}

export function assertClose(
  actual: readonly number[],
  expected: readonly number[],
  tolerance: number,
  what: string,
): void {
  assert.equal(actual.length, expected.length, what);
  for (const [i, value] of actual.entries()) {
    const want = expected[i] as number;
    assert.ok(
      Math.abs(value - want) <= tolerance * Math.max(1, Math.abs(want)),
      `${what}[${i}]: ${value}, expected ${want}`,
    );
  }
}

/**
 * Registers the cases for strategies that `make` builds, as `describe(name)`.
 * @param selection 'arithmetic' is for further numbers of replicas: a sum and a training run; threads take time to start. 'distant' is
 * for devices that cannot be read at once: what has to read them between replicas must be refused, in words that lead on.
 */
export function strategyCases(name: string, make: () => Strategy, selection: Selection = 'all', skip = ''): void {
  describe(name, { skip: skip || false }, () => {
    // What cannot run here may not be there to be made.
    if (skip) return;
    const strategy = make();
    const n = strategy.numReplicasInSync;
    arithmeticCases(strategy, n, selection);
    if (selection !== 'arithmetic') conductCases(strategy, n, selection);
  });
}

type Selection = 'all' | 'arithmetic' | 'distant';

const REFUSED = /hands out no tensor's values at once[\s\S]*help: train with context\.trainer\(\)/;

/** Sums and weights. */
function arithmeticCases(strategy: Strategy, n: number, selection: Selection): void {
  for (const op of selection === 'arithmetic' ? (['MEAN'] as const) : (['SUM', 'MEAN'] as const)) {
    test(`allReduce ${op}: empty, scalar-sized and prime-sized tensors, the same bits everywhere`, async () => {
      const sizes = [0, 1, 3, 7, 101];
      const results = await strategy.run<number[][]>(scenes, { scene: 'allReduce', op, sizes });
      assert.equal(results.length, n);
      for (const [i, size] of sizes.entries()) {
        const parts = Array.from({ length: n }, (_, replica) => numbers(size, 10 * i + replica));
        const expected = Array.from({ length: size }, (_, k) => {
          const sum = parts.reduce((total, part) => total + (part[k] as number), 0);
          return op === 'MEAN' ? sum / n : sum;
        });
        assertClose(results[0]?.[i] as number[], expected, 1e-6, `tensor ${i}`);
      }
      for (const result of results) assert.deepEqual(result, results[0]);
    });
  }

  const recipes: Record<string, Recipe> = {
    'SGD without batch norm': { steps: 6, learningRate: 0.2 },
    'momentum with weight decay': { steps: 6, learningRate: 0.1, momentum: 0.9, weightDecay: 0.01 },
    'Nesterov momentum': { steps: 6, learningRate: 0.1, momentum: 0.8, nesterov: true },
    'momentum with batch norm, normalised per replica': {
      steps: 6,
      learningRate: 0.1,
      momentum: 0.9,
      batchNorm: true,
    },
  };
  for (const [title, recipe] of Object.entries(recipes).slice(selection === 'arithmetic' ? -1 : 0)) {
    // Statistics are averaged with a collective that reads them.
    if (recipe.batchNorm && selection === 'distant' && n > 1) {
      test(`trainer: ${title}: statistics that cannot be read at once are not averaged, and that is said`, async () => {
        await assert.rejects(train(strategy, recipe), REFUSED);
      });
      continue;
    }
    test(`trainer: ${title} equals averaging the gradients by hand`, async () => {
      const expected = await trainByHand(n, recipe);
      const results = await train(strategy, recipe);
      for (const [replica, result] of results.entries()) {
        for (const [i, values] of result.variables.entries()) {
          assertClose(values, expected.variables[i] as number[], 2e-5, `variable ${i} of replica ${replica}`);
        }
        assertClose(result.losses, expected.losses, 2e-5, 'mean loss');
        assert.deepEqual(result.weights, result.variables.flat(), 'variables are views of the flat weights');
        assert.deepEqual(result.weights, results[0]?.weights, 'the same bits on every replica');
        if (recipe.batchNorm) {
          assertClose(result.statistics[0] as number[], expected.statistics, 2e-5, 'averaged statistics');
          assert.deepEqual(result.statistics, results[0]?.statistics);
        }
      }
      if (recipe.weightDecay !== undefined) {
        const matrices = expected.variables.filter((values) => values.length > 5).flat();
        const decay = (recipe.weightDecay * matrices.reduce((sum, w) => sum + w * w, 0)) / 2;
        assertClose([results[0]?.decayLoss as number], [decay], 1e-5, 'weight decay loss');
      }
    });
  }
}

/** Everything else that a replica does. */
function conductCases(strategy: Strategy, n: number, selection: Selection): void {
  test('runs the module once per device and returns the results in order', async () => {
    const results = await strategy.run(scenes, { scene: 'identity', value: { deep: [1, 'two'] } });
    assert.deepEqual(
      results,
      strategy.devices.map((device, replica) => ({
        replica,
        replicas: n,
        device: device.name,
        threads: device.threads,
        backend: device.provider,
        // Bound to its cores, if it has any, where threads can be bound.
        cpus: process.platform !== 'linux' ? null : device.cores.length > 0 ? device.cores : allowedCpus(),
        value: { deep: [1, 'two'] },
      })),
    );
  });

  test('threadsPerReplica and bindThreads reach every replica', async () => {
    const options = { threadsPerReplica: 3, bindThreads: false };
    const results = await strategy.run<{ threads: number; cpus: number[] | null }>(
      scenes,
      { scene: 'identity' },
      options,
    );
    for (const { threads, cpus } of results) {
      assert.equal(threads, 3);
      if (process.platform === 'linux') assert.deepEqual(cpus, allowedCpus());
    }
  });

  test('trainer: a loss scale changes nothing but rounding, and nothing at all if it is a power of two', async () => {
    const recipe = { steps: 4, learningRate: 0.1, momentum: 0.9 };
    const plain = await train(strategy, recipe);
    const scaled = await train(strategy, recipe, 128);
    assert.deepEqual(scaled[0]?.weights, plain[0]?.weights);
    assert.deepEqual(scaled[0]?.losses, plain[0]?.losses);
  });

  test('trainer: the same bits from run to run, and no tensor more from step to step', async () => {
    const recipe = { steps: 8, learningRate: 0.1, momentum: 0.9 };
    const [first, second] = [await train(strategy, recipe), await train(strategy, recipe)];
    assert.deepEqual(first[0]?.weights, second[0]?.weights);
    for (const result of first) assert.equal(new Set(result.tensors).size, 1);
  });

  if (selection === 'distant' && n > 1) {
    test('optimizer(), model.fit and mirror: refused, with what there is instead', async () => {
      const optimizer = { scene: 'optimizer', steps: 2, learningRate: 0.1, momentum: 0.9 };
      const mirror = { scene: 'mirror', shapes: Array(n).fill([2, 2]) };
      for (const args of [optimizer, { scene: 'fit', examples: 8 * n }, mirror]) {
        await assert.rejects(strategy.run(scenes, args), REFUSED, args.scene);
      }
    });
  } else mirrorCases(strategy, n);

  test('shard: disjoint, in order, equally long, remainder dropped, for every kind of data set', async () => {
    const length = 3 * n + (n - 1);
    const results = await strategy.run<Record<string, number[]>>(scenes, { scene: 'shard', length });
    for (const [replica, result] of results.entries()) {
      // With one replica the remainder is empty: 3·1 + 0.
      const expected = [0, 1, 2].map((i) => i * n + replica);
      for (const kind of ['array', 'tensor', 'iterable', 'stream']) assert.deepEqual(result[kind], expected, kind);
    }
  });

  test('a solo context trains and reduces in each replica by itself', async () => {
    const results = await strategy.run(scenes, { scene: 'solo' });
    // Weight 1 less 0.25 times the factor, for each step.
    assert.deepEqual(
      results,
      Array.from({ length: n }, (_, i) => (i === 0 ? [1, 0.25, 1] : [1, 1 - 0.25 * (i + 1), i + 1])),
    );
  });

  test('merge: everybody’s values, in order, on every replica', async () => {
    const order = Array.from({ length: n }, (_, replica) => replica);
    assert.deepEqual(await strategy.run(scenes, { scene: 'merge' }), Array(n).fill(order));
  });

  test('shouldStop: the signal ends all replicas at the same step, with their results', async () => {
    const controller = new AbortController();
    const steps = await strategy.run<number>(
      scenes,
      { scene: 'untilStopped' },
      { signal: controller.signal, onReport: (_, message) => message === 'running' && controller.abort() },
    );
    assert.ok((steps[0] as number) >= 3);
    assert.deepEqual(steps, Array(n).fill(steps[0]));
  });
}

/** What reads variables between replicas, outside of a trainer. */
function mirrorCases(strategy: Strategy, n: number): void {
  test('optimizer(): any TensorFlow.js optimizer gives the trainer’s result', async () => {
    const expected = await trainByHand(n, { steps: 5, learningRate: 0.1, momentum: 0.9 });
    const results = await strategy.run<{ variables: number[][] }>(scenes, {
      scene: 'optimizer',
      steps: 5,
      learningRate: 0.1,
      momentum: 0.9,
    });
    for (const result of results) {
      for (const [i, values] of result.variables.entries()) {
        assertClose(values, expected.variables[i] as number[], 2e-5, `variable ${i}`);
      }
      assert.deepEqual(result, results[0]);
    }
  });

  test('model.fit unchanged: replicas stay mirrors, each sees its share', async () => {
    const examples = 8 * n + (n - 1);
    const results = await strategy.run<{ weights: number[][]; loss: number[]; examples: number }>(scenes, {
      scene: 'fit',
      examples,
    });
    for (const result of results) {
      assert.equal(result.examples, 8);
      assert.deepEqual(result.weights, results[0]?.weights);
      assert.equal(result.loss.length, 3);
    }
    const mean = (epoch: number) => results.reduce((sum, result) => sum + (result.loss[epoch] as number), 0) / n;
    assert.ok(mean(2) < mean(0), `the loss falls: ${mean(0)}, ${mean(2)}`);
  });

  test('mirror: replica 0’s values everywhere', async () => {
    const results = await strategy.run(scenes, { scene: 'mirror', shapes: Array(n).fill([2, 2]) });
    assert.deepEqual(
      results,
      Array(n).fill([
        [1, 1],
        [1, 1, 1, 1],
      ]),
    );
  });
}

/** Weights, losses and tensor counts of a run of the trainer. */
export async function train(strategy: Strategy, recipe: Recipe, lossScale?: number): Promise<Trained[]> {
  const { steps, learningRate, momentum, nesterov, weightDecay, batchNorm } = recipe;
  const optimizer =
    momentum === undefined ? { kind: 'sgd' } : { kind: 'momentum', momentum, nesterov: nesterov ?? false };
  return await strategy.run<Trained>(scenes, {
    scene: 'train',
    steps,
    learningRate,
    weightDecay,
    batchNorm: batchNorm ?? false,
    options: { optimizer, ...(lossScale !== undefined && { lossScale }) },
  });
}
