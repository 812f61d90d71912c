/**
 * What every replica of a Keras run does, and it is what anybody's program does: a model of tf.layers, compiled with a distributed
 * optimizer, `fitDataset` with callbacks, an evaluation. Batches come from the official input pipeline.
 */
import { hostAccess, type ReplicaContext } from '@lockstep/distribute';
import * as tf from '@tensorflow/tfjs-core';
import { CustomCallback, type LayersModel } from '@tensorflow/tfjs-layers';
import type { DataSet, InputSource } from '../../data/data-set.js';
import { openPipeline } from '../../data/input-pipeline.js';
import type { ScheduleOptions } from '../../data/schedule.js';
import { SyntheticInput } from '../../data/synthetic.js';
import { tensorBoard } from '../../summary/summary-files.js';
import type { Timeline } from '../../utils/logs/timeline.js';
import { StepProfile } from '../replica/step-profile.js';
import {
  buildStats,
  cifar10Schedule,
  imagenetSchedule,
  type KerasStats,
  LearningRateBatchScheduler,
  TimeHistory,
} from './keras-common.js';
import { kerasCifar10Model, kerasImagenetModel, trivialModel } from './keras-models.js';

/** Plain data: it crosses threads. */
export interface KerasArguments {
  readonly network: 'cifar10' | 'imagenet' | 'trivial';
  readonly schedule: 'cifar10' | 'imagenet';
  readonly resnetSize: number;
  readonly imageShape: readonly [number, number, number];
  readonly numClasses: number;
  readonly seed: number;
  /** Global. */
  readonly batchSize: number;
  readonly epochs: number;
  readonly epochsBetweenEvals: number;
  readonly stepsPerEpoch: number;
  /** 0: no evaluation. */
  readonly evaluationSteps: number;
  /** Null: made-up pictures. */
  readonly train: DataSet | null;
  readonly validation: DataSet | null;
  /** Subtracted from labels: ImageNet's begin at 1, and upstream's Keras variant at 0. */
  readonly labelShift: number;
  readonly logSteps: number;
  readonly dtype: 'f32' | 'bf16' | 'bf16_emulated';
  /** Folder of the event files; null: none. */
  readonly tensorBoardDir: string | null;
  /** Steps that are traced, counted from 1 through epochs; null: none. */
  readonly profileSteps: { readonly first: number; readonly last: number } | null;
  /** Report the trained model. */
  readonly wantsModel: boolean;
}

export type KerasMessage =
  | { readonly kind: 'line'; readonly line: string }
  | { readonly kind: 'step'; readonly step: number; readonly loss: number; readonly accuracy: number }
  | { readonly kind: 'timeline'; readonly timeline: Timeline };

export interface KerasResult {
  readonly stats: KerasStats;
  readonly steps: number;
  /** Told to stop before the last step. */
  readonly interrupted: boolean;
  /** Replica 0's, as `model.save` has it. */
  readonly model: { readonly json: string; readonly weights: ArrayBuffer } | null;
}

const MOMENTUM = 0.9;

export default async function kerasReplica(context: ReplicaContext, args: KerasArguments): Promise<KerasResult> {
  const access = hostAccess();
  if (access.setPrecision) access.setPrecision(args.dtype);
  else if (args.dtype !== 'f32') {
    throw new Error(`--dtype=${args.dtype}: this backend computes in 32 bits only.\nhelp: use --dtype=fp32.`);
  }
  const model = modelOf(args);
  model.compile({
    optimizer: context.optimizer(tf.train.momentum(0.1, MOMENTUM)),
    loss: 'sparseCategoricalCrossentropy',
    metrics: ['accuracy'],
  });
  const isChief = context.replicaIdInSyncGroup === 0;
  const tell = (message: KerasMessage) => {
    if (isChief) context.report(message);
  };
  const { batchSize, stepsPerEpoch, epochs, epochsBetweenEvals } = args;
  const schedule = args.schedule === 'cifar10' ? cifar10Schedule(batchSize) : imagenetSchedule(batchSize);
  const time = new TimeHistory(batchSize, args.logSteps, (line) => tell({ kind: 'line', line }));
  const profile = new StepProfile({ everySteps: null, steps: args.profileSteps }, context);
  const tellTimeline = (timeline: Timeline | null) => {
    if (timeline !== null) tell({ kind: 'timeline', timeline });
  };
  let steps = 0;
  let interrupted = false;
  // model.fitDataset asks for a batch before it says that one begins.
  let asked = 0;
  let given = 0;
  const follow = new CustomCallback({
    onEpochBegin: async () => {
      asked = performance.now();
    },
    onBatchBegin: async () => {
      given = performance.now();
      profile.before(steps + 1);
    },
    onBatchEnd: async (_batch, logs) => {
      steps++;
      tellTimeline(profile.after(steps, asked, given));
      asked = performance.now();
      tell({ kind: 'step', step: steps, loss: logs?.loss ?? Number.NaN, accuracy: logs?.acc ?? Number.NaN });
      if (!context.shouldStop()) return;
      interrupted = true;
      model.stopTraining = true;
    },
    onEpochEnd: async (epoch) => {
      if (interrupted || (epoch + 1) % epochsBetweenEvals !== 0 || epoch + 1 === epochs || args.evaluationSteps === 0)
        return;
      const [loss, accuracy] = await evaluate(model, context, args);
      tell({
        kind: 'line',
        line: `epoch ${epoch + 1}: eval_loss ${loss.toFixed(4)}, accuracy_top_1 ${accuracy.toFixed(4)}`,
      });
    },
  });
  const { inputReplicaId: replica, numInputReplicas: replicas } = context;
  const input = await open(args, args.train, true, replica, replicas);
  try {
    const { history } = await model.fitDataset(datasetOf(input, args), {
      epochs,
      batchesPerEpoch: stepsPerEpoch,
      verbose: 0,
      callbacks: [
        new CustomCallback(context.metricAverageCallback()),
        new LearningRateBatchScheduler(schedule, stepsPerEpoch),
        time,
        follow,
        ...(args.tensorBoardDir === null ? [] : [tensorBoard({ logDir: args.tensorBoardDir, context })]),
      ],
    });
    tellTimeline(profile.finish());
    const evaluation = interrupted || args.evaluationSteps === 0 ? null : await evaluate(model, context, args);
    context.averageStatistics(model);
    const stats = buildStats(history as Record<string, number[]>, evaluation, time);
    const wantsModel = isChief && args.wantsModel && !interrupted;
    return { stats, steps, interrupted, model: wantsModel ? await saved(model) : null };
  } finally {
    await input.close();
    model.dispose();
  }
}

function modelOf({ network, numClasses, seed, resnetSize, imageShape }: KerasArguments): LayersModel {
  const options = { numClasses, seed };
  switch (network) {
    case 'cifar10':
      return kerasCifar10Model(options, resnetSize);
    case 'imagenet':
      return kerasImagenetModel(options, imageShape[0]);
    case 'trivial':
      return trivialModel(options, imageShape);
    default:
      throw new Error(`there is no network ${network satisfies never}`);
  }
}

/** Loss and accuracy over all replicas: whole batches only, as upstream. Collective. */
async function evaluate(model: LayersModel, context: ReplicaContext, args: KerasArguments): Promise<[number, number]> {
  context.averageStatistics(model);
  const { inputReplicaId: replica, numInputReplicas: replicas } = context;
  const input = await open(args, args.validation, false, replica, replicas);
  try {
    const scalars = (await model.evaluateDataset(datasetOf(input, args) as never, {
      batches: args.evaluationSteps,
    })) as tf.Scalar[];
    const [loss, accuracy] = await Promise.all(scalars.map(async (one) => (await one.data())[0] as number));
    for (const scalar of scalars) scalar.dispose();
    const mean = context.averageMetrics({ loss: loss as number, accuracy: accuracy as number });
    return [mean.loss, mean.accuracy];
  } finally {
    await input.close();
  }
}

function open(
  args: KerasArguments,
  dataSet: DataSet | null,
  isTraining: boolean,
  replica: number,
  replicas: number,
): InputSource | Promise<InputSource> {
  const { imageShape, numClasses, batchSize, seed, epochs, evaluationSteps } = args;
  const size = batchSize / replicas;
  if (dataSet === null) {
    return new SyntheticInput({ plan: { imageShape, numClasses }, batchSize: size, seed, stream: replica });
  }
  const schedule: ScheduleOptions = isTraining
    ? { kind: 'training', count: dataSet.count, batchSize, replica, replicas, seed, firstEpoch: 0, epochs }
    : {
        kind: 'ranges',
        ranges: Array.from({ length: evaluationSteps }, (_, step) => {
          const begin = step * batchSize + replica * size;
          return [begin, begin + size] as const;
        }),
      };
  return openPipeline({ dataSet, schedule, reading: { seed, isTraining, randomFlip: true } });
}

/** Batches as fitDataset takes them. */
function datasetOf(input: InputSource, { imageShape, labelShift }: KerasArguments) {
  const next = async () => {
    const batch = input.next();
    if (batch === null) return { done: true as const, value: null as never };
    const { size, images, labels } = batch;
    const value = {
      // What is taken is a view of memory that is overwritten.
      xs: tf.tensor(images.slice(), [size, ...imageShape]),
      ys: tf.tensor1d(Float32Array.from(labels, (label) => label - labelShift)),
    };
    input.release();
    return { done: false as const, value };
  };
  return { size: null as never, iterator: async () => ({ next }) } as never;
}

async function saved(model: LayersModel): Promise<NonNullable<KerasResult['model']>> {
  let found: KerasResult['model'] = null;
  const handler = tf.io.withSaveHandler(async ({ weightData, weightSpecs, ...rest }) => {
    const weightsManifest = [{ paths: ['weights.bin'], weights: weightSpecs }];
    found = {
      json: JSON.stringify({ ...rest, weightsManifest }),
      weights: tf.io.CompositeArrayBuffer.join(weightData as tf.io.WeightData),
    };
    return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' } };
  });
  await model.save(handler);
  return found as never;
}
