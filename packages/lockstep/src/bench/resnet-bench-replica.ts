/**
 * What a replica of `lockstep bench resnet` runs: training steps of the official ResNet on made-up images that go through the
 * real input pipeline, timed one by one; then the step's convolutions alone.
 */
import type { ReplicaContext } from '@lockstep/distribute';
import { InputPipeline } from '@lockstep/official/data/input-pipeline';
import { SyntheticInput } from '@lockstep/official/data/synthetic';
import { sparseSoftmaxCrossEntropy } from '@lockstep/official/resnet/fused-ops';
import { Model, type ResNetPlan } from '@lockstep/official/resnet/resnet-model';
import { convolutionBound, OneDnnBackend } from '@lockstep/onednn';
import * as tf from '@tensorflow/tfjs-core';

export interface BenchArguments {
  readonly plan: ResNetPlan;
  /** Images of each replica. */
  readonly batchSize: number;
  readonly steps: number;
  readonly warmup: number;
  readonly dtype: 'f32' | 'bf16';
  /** CIFAR-10 records, or null for made-up images of any size. */
  readonly records: Uint8Array | null;
  readonly recordCount: number;
  /** Whether to time the convolutions alone as well. Default true. */
  readonly bound?: boolean;
}

export type Phase = 'input' | 'forward' | 'backward' | 'reduce' | 'update';

export interface BenchResult {
  readonly stepMs: readonly number[];
  readonly phaseMs: Readonly<Record<Phase, readonly number[]>>;
  readonly convBoundMs: number | null;
  readonly convolutions: number;
  /** Resident memory of the process after warm-up and after the last step, bytes. */
  readonly residentBytes: readonly [number, number];
  /** Buffers of 1 MiB and more that the backend took from the system after warm-up. */
  readonly newBuffers: number | null;
}

export default async function replica(context: ReplicaContext, args: BenchArguments): Promise<BenchResult> {
  const backend = tf.backend();
  if (backend instanceof OneDnnBackend) backend.precision = args.dtype;
  const model = new Model(args.plan, 1);
  const trainer = context.trainer(model.variables, {
    optimizer: { kind: 'momentum', momentum: 0.9 },
    weightDecay: { rate: 2e-4, applies: () => true },
  });
  const input = openInput(context, args);
  const { imageShape } = args.plan;
  const phaseMs: Record<Phase, number[]> = { input: [], forward: [], backward: [], reduce: [], update: [] };
  const stepMs: number[] = [];
  const loss = (images: tf.Tensor, labels: tf.Tensor) =>
    tf.mean(sparseSoftmaxCrossEntropy(model.call(images as tf.Tensor4D, true), labels as tf.Tensor1D)) as tf.Scalar;
  const step = (): void => {
    const begin = performance.now();
    const batch = input.next();
    if (!batch) throw new Error('The input ended before the benchmark.');
    const inputMs = performance.now() - begin;
    const { phases } = trainer.step(loss, 0.01, [
      { values: batch.images, shape: [batch.size, ...imageShape] },
      { values: batch.labels, shape: [batch.size] },
    ]);
    input.release();
    stepMs.push(performance.now() - begin);
    phaseMs.input.push(inputMs);
    for (const name of ['forward', 'backward', 'reduce', 'update'] as const) phaseMs[name].push(phases[name]);
  };
  const allocations = () =>
    backend instanceof OneDnnBackend ? backend.runtime.pool.statistics().largeAllocations : null;
  for (let i = 0; i < args.warmup; i++) step();
  stepMs.length = 0;
  for (const samples of Object.values(phaseMs)) samples.length = 0;
  const before = { resident: process.memoryUsage.rss(), allocations: allocations() };
  for (let i = 0; i < args.steps; i++) step();
  const after = { resident: process.memoryUsage.rss(), allocations: allocations() };
  const timed = { stepMs: [...stepMs], phaseMs: structuredClone(phaseMs) };
  const bound =
    args.bound !== false && backend instanceof OneDnnBackend ? convolutionBound(backend.runtime, step) : null;
  await input.close();
  return {
    ...timed,
    convBoundMs: bound?.milliseconds ?? null,
    convolutions: bound?.count ?? 0,
    residentBytes: [before.resident, after.resident],
    newBuffers: before.allocations === null ? null : (after.allocations as number) - before.allocations,
  };
}

function openInput({ replicaIdInSyncGroup, numReplicasInSync }: ReplicaContext, args: BenchArguments) {
  const { batchSize, plan, records, recordCount } = args;
  if (!records) return new SyntheticInput({ plan, batchSize, seed: 1, stream: replicaIdInSyncGroup });
  return new InputPipeline({
    records,
    count: recordCount,
    batchSize: batchSize * numReplicasInSync,
    replica: replicaIdInSyncGroup,
    replicas: numReplicasInSync,
    seed: 1,
    firstEpoch: 0,
    epochs: 1e6,
    threads: 1,
  });
}
