/**
 * What a replica of `lockstep bench resnet` runs: training steps of the official ResNet on made-up images that go through the
 * real input pipeline, timed one by one; then the step's convolutions alone.
 */
import { hostAccess, type ReplicaContext, soloContext } from '@lockstep/distribute';
import { cifar10DataSet } from '@lockstep/official/data/cifar10-data';
import type { InputSource } from '@lockstep/official/data/data-set';
import { openPipeline } from '@lockstep/official/data/input-pipeline';
import { SyntheticInput } from '@lockstep/official/data/synthetic';
import { sparseSoftmaxCrossEntropy } from '@lockstep/official/resnet/fused-ops';
import { Model, type ResNetPlan } from '@lockstep/official/resnet/resnet-model';
import { convolutionBound, OneDnnBackend } from '@lockstep/onednn';
import * as tf from '@tensorflow/tfjs-core';

export interface BenchArguments {
  readonly plan: ResNetPlan;
  /** Images of each replica. */
  readonly batchSize: number;
  /** Steps that are timed, of each round. */
  readonly steps: number;
  /** Default 1. */
  readonly rounds?: number;
  /** Whether each round has, besides the steps together, as many that nobody waits for: of all at once, and of one alone. */
  readonly compares?: boolean;
  readonly warmup: number;
  readonly dtype: 'f32' | 'bf16';
  /** CIFAR-10 records, or null for made-up images of any size. */
  readonly records: Uint8Array | null;
  readonly recordCount: number;
}

export type Phase = 'input' | 'forward' | 'backward' | 'reduce' | 'update';

export interface BenchResult {
  readonly stepMs: readonly number[];
  /** Of each round: steps together; of this replica without the others; the same while the others rest, of the first one only. */
  readonly rounds: readonly {
    readonly together: readonly number[];
    readonly apart: readonly number[];
    readonly alone: readonly number[];
  }[];
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
  hostAccess().setPrecision?.(args.dtype);
  const together = await Training.open(context, args);
  const own = args.compares ? await Training.open(soloContext(context), args) : null;
  const barrier = () => context.communicator.barrier();
  const allocations = () =>
    backend instanceof OneDnnBackend ? backend.runtime.pool.statistics().largeAllocations : null;

  await together.run(args.warmup);
  await own?.run(args.warmup);
  together.clear();
  const before = { resident: process.memoryUsage.rss(), allocations: allocations() };
  const isFirst = context.inputPipelineId === 0 && context.replicaIdInSyncGroup === 0;
  const rounds: BenchResult['rounds'][number][] = [];
  for (let round = 0; round < (args.rounds ?? 1); round++) {
    barrier();
    const times = { together: await together.run(args.steps), apart: [] as number[], alone: [] as number[] };
    rounds.push(times);
    if (!own) continue;
    barrier();
    times.apart = await own.run(args.steps);
    barrier();
    if (isFirst) times.alone = await own.run(args.steps);
    barrier();
  }
  const after = { resident: process.memoryUsage.rss(), allocations: allocations() };
  const timed = { stepMs: [...together.stepMs], phaseMs: structuredClone(together.phaseMs) };
  const bound =
    backend instanceof OneDnnBackend ? await convolutionBound(backend.runtime, () => together.run(1)) : null;
  await together.close();
  await own?.close();
  return {
    ...timed,
    rounds,
    convBoundMs: bound?.milliseconds ?? null,
    convolutions: bound?.count ?? 0,
    residentBytes: [before.resident, after.resident],
    newBuffers: before.allocations === null ? null : (after.allocations as number) - before.allocations,
  };
}

/** A network in training, with its input. */
class Training {
  readonly stepMs: number[] = [];
  readonly phaseMs: Record<Phase, number[]> = { input: [], forward: [], backward: [], reduce: [], update: [] };
  readonly #step: () => Promise<void>;
  readonly #input: InputSource;

  static async open(context: ReplicaContext, args: BenchArguments): Promise<Training> {
    return new Training(context, args, await openInput(context, args));
  }

  private constructor(context: ReplicaContext, args: BenchArguments, input: InputSource) {
    const model = new Model(args.plan, 1);
    const trainer = context.trainer(model.variables, {
      optimizer: { kind: 'momentum', momentum: 0.9 },
      weightDecay: { rate: 2e-4, applies: () => true },
    });
    this.#input = input;
    const { imageShape } = args.plan;
    const loss = (images: tf.Tensor, labels: tf.Tensor) =>
      tf.mean(sparseSoftmaxCrossEntropy(model.call(images as tf.Tensor4D, true), labels as tf.Tensor1D)) as tf.Scalar;
    this.#step = async () => {
      const begin = performance.now();
      const batch = input.next();
      if (!batch) throw new Error('The input ended before the benchmark.');
      const inputMs = performance.now() - begin;
      const { phases } = await trainer.step(loss, 0.01, [
        { values: batch.images, shape: [batch.size, ...imageShape] },
        { values: batch.labels, shape: [batch.size] },
      ]);
      input.release();
      this.stepMs.push(performance.now() - begin);
      this.phaseMs.input.push(inputMs);
      for (const name of ['forward', 'backward', 'reduce', 'update'] as const) this.phaseMs[name].push(phases[name]);
    };
  }

  /** @returns the steps' times. */
  async run(steps: number): Promise<number[]> {
    for (let i = 0; i < steps; i++) await this.#step();
    return steps > 0 ? this.stepMs.slice(-steps) : [];
  }

  clear(): void {
    this.stepMs.length = 0;
    for (const samples of Object.values(this.phaseMs)) samples.length = 0;
  }

  async close(): Promise<void> {
    await this.#input.close();
  }
}

async function openInput(
  { replicaIdInSyncGroup: replica, numReplicasInSync: replicas }: ReplicaContext,
  { batchSize, plan, records, recordCount: count }: BenchArguments,
): Promise<InputSource> {
  if (!records) return new SyntheticInput({ plan, batchSize, seed: 1, stream: replica });
  const place = { replica, replicas, seed: 1, firstEpoch: 0, epochs: 1e6 };
  return await openPipeline({
    dataSet: cifar10DataSet({ records, count }),
    schedule: { kind: 'training', count, batchSize: batchSize * replicas, ...place },
    reading: { seed: 1, isTraining: true, randomFlip: true },
    threads: 1,
  });
}
