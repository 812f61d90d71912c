/** What a replica of `lockstep bench models` runs: one of the networks, with the optimizer that its context makes distributed. */
import type { ReplicaContext } from '@lockstep/distribute';
import { NETWORKS, type NetworkName } from './networks.js';

export interface ModelsBenchArguments {
  readonly network: NetworkName;
  readonly steps: number;
  readonly warmup: number;
  /** Weights before the first step are asked for. */
  readonly wantsWeights: boolean;
}

export interface ModelsBenchResult {
  readonly batch: number;
  readonly stepMs: readonly number[];
  /** Of the first three steps, warm-up or not. */
  readonly firstLosses: readonly number[];
  readonly parameters: number;
  /** One after another; null where they were not asked for. */
  readonly weights: Float32Array | null;
}

export default async function replica(
  context: ReplicaContext,
  { network: name, steps, warmup, wantsWeights }: ModelsBenchArguments,
): Promise<ModelsBenchResult> {
  const network = NETWORKS[name]((optimizer) => context.optimizer(optimizer));
  const initial = network.weights();
  const parameters = initial.reduce((sum, { length }) => sum + length, 0);
  const weights = wantsWeights ? new Float32Array(parameters) : null;
  let at = 0;
  for (const values of weights ? initial : []) {
    weights?.set(values, at);
    at += values.length;
  }
  const losses: number[] = [];
  const stepMs: number[] = [];
  for (let step = 0; step < warmup + steps; step++) {
    const begin = performance.now();
    const loss = await network.step();
    if (step >= warmup) stepMs.push(performance.now() - begin);
    if (step < 3) losses.push(loss);
  }
  return { batch: network.batch, stepMs, firstLosses: losses, parameters, weights };
}
