/**
 * What the two Keras mains share (upstream's keras_common.py): the callback that sets the learning rate before every batch, the one that
 * measures time, and the figures that a run returns. Callbacks are TensorFlow.js' own kind, for anybody's `model.fit`.
 */
import { Callback } from '@tensorflow/tfjs-layers';

/** @returns the learning rate at a batch of an epoch, both from 0 */
export type BatchSchedule = (epoch: number, batch: number, batchesPerEpoch: number) => number;

/** Epochs from which on the initial rate is multiplied. */
type Steps = readonly (readonly [factor: number, epoch: number])[];

const CIFAR10_STEPS: Steps = [
  [0.1, 91],
  [0.01, 136],
  [0.001, 182],
];
const IMAGENET_STEPS: Steps = [
  [0.1, 30],
  [0.01, 60],
  [0.001, 80],
];
const BASE_RATE = 0.1;
const WARMUP_EPOCHS = 5;

/** CIFAR-10: 0.1 for a batch of 128, a tenth from epochs 91, 136 and 182 on. @param batchSize global */
export function cifar10Schedule(batchSize: number): BatchSchedule {
  return (epoch) => ((BASE_RATE * batchSize) / 128) * factorAt(CIFAR10_STEPS, epoch);
}

/** ImageNet: 0.1 for a batch of 256, growing from 0 over five epochs, a tenth from epochs 30, 60 and 80 on. @param batchSize global */
export function imagenetSchedule(batchSize: number): BatchSchedule {
  const initial = (BASE_RATE * batchSize) / 256;
  return (epoch, batch, batchesPerEpoch) => {
    const at = epoch + batch / batchesPerEpoch;
    return initial * (at < WARMUP_EPOCHS ? at / WARMUP_EPOCHS : factorAt(IMAGENET_STEPS, at));
  };
}

function factorAt(steps: Steps, epoch: number): number {
  return steps.findLast(([, begin]) => epoch >= begin)?.[0] ?? 1;
}

/**
 * Sets the optimizer's learning rate before every batch.
 * @throws Error in training for an optimizer without a rate, or a schedule that gives none, in upstream's words
 */
export class LearningRateBatchScheduler extends Callback {
  #epoch = 0;

  constructor(
    private readonly schedule: BatchSchedule,
    private readonly batchesPerEpoch: number,
  ) {
    super();
  }

  override async onEpochBegin(epoch: number): Promise<void> {
    this.#epoch = epoch;
  }

  override async onBatchBegin(batch: number): Promise<void> {
    const { optimizer } = this.model as unknown as { optimizer: { setLearningRate?: (rate: number) => void } };
    if (typeof optimizer.setLearningRate !== 'function') {
      throw new Error('Optimizer must have a "learning_rate" attribute.');
    }
    const rate = this.schedule(this.#epoch, batch, this.batchesPerEpoch);
    if (typeof rate !== 'number' || !Number.isFinite(rate)) {
      throw new Error('The output of the "schedule" function should be float.');
    }
    optimizer.setLearningRate(rate);
  }
}

/** When a step ended: steps from 0, seconds since 1970. */
export interface BatchTimestamp {
  readonly batchIndex: number;
  readonly timestamp: number;
}

/**
 * Notes the time at every `logSteps`-th step, and says how many examples a second the steps in between were. Steps are counted through
 * epochs: upstream's count begins anew in each.
 */
export class TimeHistory extends Callback {
  timestampLog: BatchTimestamp[] = [];
  trainFinishTime: number | null = null;
  #step = 0;

  /** @param batchSize global @param say gets `BenchmarkMetric: …` @param now seconds */
  constructor(
    readonly batchSize: number,
    readonly logSteps: number,
    private readonly say: (line: string) => void = () => {},
    private readonly now: () => number = () => Date.now() / 1000,
  ) {
    super();
  }

  override async onBatchEnd(): Promise<void> {
    const step = this.#step++;
    if (step % this.logSteps !== 0) return;
    const timestamp = this.now();
    const last = this.timestampLog.at(-1);
    this.timestampLog.push({ batchIndex: step, timestamp });
    if (!last) return;
    const taken = timestamp - last.timestamp;
    const rate = (this.batchSize * this.logSteps) / taken;
    this.say(
      `BenchmarkMetric: {'num_batches':${step}, 'time_taken': ${taken.toFixed(6)},'examples_per_second': ${rate.toFixed(6)}}`,
    );
  }

  override async onTrainEnd(): Promise<void> {
    this.trainFinishTime = this.now();
  }
}

/** The figures of a run; absent is what it did not do. */
export interface KerasStats {
  readonly accuracy_top_1?: number;
  readonly eval_loss?: number;
  readonly loss?: number;
  readonly training_accuracy_top_1?: number;
  readonly step_timestamp_log?: readonly BatchTimestamp[];
  readonly train_finish_time?: number;
  readonly avg_exp_per_second?: number;
}

/**
 * @param history `model.fit`'s: values by epoch
 * @param evaluation loss and accuracy
 */
export function buildStats(
  history: Readonly<Record<string, readonly number[]>> | null,
  evaluation: readonly [loss: number, accuracy: number] | null,
  time: Pick<TimeHistory, 'batchSize' | 'logSteps' | 'timestampLog' | 'trainFinishTime'> | null,
): KerasStats {
  const last = (name: string) => history?.[name]?.at(-1);
  const loss = last('loss');
  // TensorFlow.js calls it `acc`; upstream's Keras by the metric's whole name.
  const accuracy = last('categorical_accuracy') ?? last('sparse_categorical_accuracy') ?? last('acc');
  const log = time?.timestampLog ?? [];
  const [first, end] = [log[0], log.at(-1)];
  return {
    ...(evaluation && { eval_loss: evaluation[0], accuracy_top_1: evaluation[1] }),
    ...(loss !== undefined && { loss }),
    ...(accuracy !== undefined && { training_accuracy_top_1: accuracy }),
    ...(time && { step_timestamp_log: log }),
    ...(time?.trainFinishTime != null && { train_finish_time: time.trainFinishTime }),
    ...(time &&
      first &&
      end &&
      log.length > 1 && {
        avg_exp_per_second: (time.batchSize * time.logSteps * (log.length - 1)) / (end.timestamp - first.timestamp),
      }),
  };
}
