/**
 * What one replica does in the tests of FlatReducer. A scene has a name, gets JSON, and returns JSON; gradients and initial
 * values are functions of their indices, so that the test can compute them again.
 */

import type { SharedMemoryCommunicator } from '../../communicator/shared-memory-communicator.js';
import { createCrossDeviceOps } from '../../cross-device-ops/create.js';
import { hashOf } from '../../cross-device-ops/testing/cross-device-ops.scenes.js';
import { FlatReducer } from '../flat-reducer.js';
import type { OptimizerConfig } from '../optimizers/create.js';
import type { FlatSegment } from '../reducer.js';

/** How a reducer is made in a scene. */
export interface ReducerRecipe {
  readonly elements: number;
  readonly segments: readonly FlatSegment[];
  readonly optimizer: OptimizerConfig;
  readonly algorithm: string;
  readonly numPacks: number;
  readonly lossScale?: number;
  readonly countFrom?: number;
}

export function gradientAt(step: number, rank: number, i: number): number {
  return Math.fround((((i * 29 + rank * 13 + step * 7) % 31) - 15) / 7);
}

export function weightAt(i: number): number {
  return Math.fround((((i * 17) % 37) - 18) / 11);
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function make(group: SharedMemoryCommunicator, recipe: ReducerRecipe) {
  const { rank, size, memory } = group;
  const { elements, segments, optimizer, algorithm, numPacks, lossScale, countFrom = 0 } = recipe;
  const weights = memory.allocate(elements);
  const momentum = memory.allocate(elements);
  const gradients = memory.allocateEach(size, elements);
  if (rank === 0) for (let i = 0; i < elements; i++) weights[i] = weightAt(i);
  const reducer = new FlatReducer({
    communicator: group,
    memory,
    crossDeviceOps: createCrossDeviceOps(algorithm, numPacks),
    segments,
    weights,
    slots: optimizer.kind === 'momentum' ? { momentum } : {},
    gradients,
    optimizer,
    countFrom,
    ...(lossScale !== undefined && { lossScale }),
  });
  const own = gradients[rank] as Float32Array;
  /**
   * Backward: the gradients of a step, segment by segment from the last; the replica with `skew` is later, and one that is
   * spoiled has no number in the last place.
   */
  const backward = (step: number, skew = 0, isSpoiled = false) => {
    for (const [index, { offset, length }] of [...segments.entries()].reverse()) {
      for (let i = offset; i < offset + length; i++) own[i] = gradientAt(step, rank, i);
      // Before it is marked: from then on others may sum it.
      if (isSpoiled && offset + length === elements) own[elements - 1] = Number.NaN;
      if (skew > 0) sleep(skew);
      reducer.markReady(index);
    }
  };
  return { reducer, weights, momentum, gradients, own, backward };
}

type Scene = (group: SharedMemoryCommunicator, args: never) => unknown;

const SCENES: Record<string, Scene> = {
  /** Some steps; `how`: in one call, or sum, then update. */
  train(group, args: ReducerRecipe & { steps: number; how: 'fused' | 'separate'; skew?: number }) {
    const { reducer, weights, momentum, backward } = make(group, args);
    const sums: number[] = [];
    for (let step = 0; step < args.steps; step++) {
      // Replicas take turns in being late.
      backward(step, (step + group.rank) % group.size === 0 ? (args.skew ?? 0) : 0);
      if (args.how === 'fused') {
        const { finite, updated } = reducer.finish({ learningRate: 0.1 });
        if (!finite || !updated) throw new Error(`step ${step}: finite ${finite}, updated ${updated}`);
      } else {
        if (!reducer.finishWithSum().finite) throw new Error('a sum was not finite');
        sums.push(hashOf(reducer.reduced));
        group.barrier();
        reducer.update({ learningRate: 0.1 });
      }
    }
    return { weights: hashOf(weights), momentum: hashOf(momentum), first: [...weights.subarray(0, 20)], sums };
  },

  /** Replica 0 is through and waits; replica 1 fills one pack, sees its sum appear, and only then fills the other. */
  early(group, recipe: ReducerRecipe) {
    const { reducer, weights, gradients, own } = make(group, recipe);
    const { rank } = group;
    own.fill(rank + 1);
    if (rank === 0) {
      for (const index of recipe.segments.keys()) reducer.markReady(index);
    } else {
      const last = recipe.segments.length - 1;
      reducer.markReady(last);
      const deadline = performance.now() + 20_000;
      // Both ends of the pack, so that every chunk of it has been summed, however slowly, before backward goes on.
      const { offset, length } = recipe.segments[last] as FlatSegment;
      const sums = gradients[0] as Float32Array;
      while ([offset, offset + length - 1].some((at) => sums[at] !== 3)) {
        if (performance.now() > deadline) throw new Error('the full pack was not summed while a replica was waiting');
        sleep(1);
      }
      for (let index = 0; index < last; index++) reducer.markReady(index);
    }
    reducer.finish({ learningRate: 1 });
    return { early: reducer.chunksSummedEarly, change: weightAt(5) - (weights[5] as number) };
  },

  /** One replica's gradient is not a number in the second of three steps. */
  nonFinite(group, args: ReducerRecipe & { skip: boolean; culprit: number }) {
    const { reducer, weights, momentum, backward } = make(group, args);
    const steps: unknown[] = [];
    for (let step = 0; step < 3; step++) {
      const before = [hashOf(weights), hashOf(momentum)];
      // Everybody has looked before anybody changes them.
      group.barrier();
      backward(step, 0, step === 1 && group.rank === args.culprit);
      const { finite, updated } = reducer.finish({ learningRate: 0.1, skipNonFinite: args.skip });
      const after = [hashOf(weights), hashOf(momentum)];
      group.barrier();
      steps.push({ finite, updated, changed: before[0] !== after[0] || before[1] !== after[1] });
    }
    return steps;
  },

  /** Numbers that replicas tell each other in a step. */
  meet(group, recipe: ReducerRecipe) {
    const { reducer, backward } = make(group, recipe);
    const met: number[][] = [];
    for (let step = 0; step < 3; step++) {
      backward(step);
      met.push([...reducer.meet([group.rank, step, 0.5])]);
      reducer.finish({ learningRate: 0.1 });
    }
    return met;
  },
};

/** Runs a scene by name. */
export function runScene(communicator: SharedMemoryCommunicator, scene: string, args: unknown): unknown {
  const run = SCENES[scene];
  if (!run) throw new Error(`No scene '${scene}'.`);
  return run(communicator, args as never);
}
