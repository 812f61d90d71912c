/**
 * What a replica of `lockstep bench packs` runs: one model and one trainer for each number of packs, and their training steps
 * in turns, so that whatever else the machine does slows all of them.
 */
import { createCrossDeviceOps, type ReplicaContext } from '@lockstep/distribute';
import { SyntheticInput } from '@lockstep/official/data/synthetic';
import { sparseSoftmaxCrossEntropy } from '@lockstep/official/resnet/fused-ops';
import { Model, type ResNetPlan } from '@lockstep/official/resnet/resnet-model';
import * as tf from '@tensorflow/tfjs-core';

export interface PacksBenchArguments {
  readonly plan: ResNetPlan;
  /** Images of each replica. */
  readonly batchSize: number;
  readonly numPacks: readonly number[];
  readonly algorithm: string;
  readonly steps: number;
  readonly warmup: number;
}

/** Times of one number of packs on this replica, in milliseconds for each step. */
export interface PacksSamples {
  readonly numPacks: number;
  readonly stepMs: readonly number[];
  /** Waiting for others and summing what was not summed meanwhile, and the update. */
  readonly reduceMs: readonly number[];
}

export default async function replica(context: ReplicaContext, args: PacksBenchArguments): Promise<PacksSamples[]> {
  const { plan, batchSize, steps, warmup } = args;
  const stream = context.replicaIdInSyncGroup;
  const { images, labels, size } = new SyntheticInput({ plan, batchSize, seed: 1, stream }).next();
  const contenders = args.numPacks.map((numPacks) => {
    const model = new Model(plan, 1);
    const options = { optimizer: { kind: 'momentum', momentum: 0.9 } as const };
    const trainer = context.trainer(model.variables, options, createCrossDeviceOps(args.algorithm, numPacks));
    const step = () =>
      trainer.step(() => {
        const x = tf.tensor4d(images, [size, ...plan.imageShape]);
        const loss = sparseSoftmaxCrossEntropy(model.call(x, true), tf.tensor1d(labels, 'int32'));
        return tf.mean(loss) as tf.Scalar;
      }, 0.01);
    return { numPacks, step, stepMs: [] as number[], reduceMs: [] as number[] };
  });
  for (let round = 0; round < warmup + steps; round++) {
    for (let i = 0; i < contenders.length; i++) {
      // Who goes first changes from round to round.
      const contender = contenders[(round + i) % contenders.length] as (typeof contenders)[number];
      const began = performance.now();
      const { phases } = await contender.step();
      if (round < warmup) continue;
      contender.stepMs.push(performance.now() - began);
      contender.reduceMs.push(phases.reduce + phases.update);
    }
  }
  return contenders.map(({ numPacks, stepMs, reduceMs }) => ({ numPacks, stepMs, reduceMs }));
}
