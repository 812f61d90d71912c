/**
 * What replicas tell each other in every step of a trainer, in the exchange that there is anyway: their loss, whether to stop, and a
 * fingerprint of what must be the same on all of them: which variables have gradients, the learning rate, the loss scale, the
 * inputs' shapes, and now and then the weights. Read before any weight changes; a difference is an error, the same on all
 * replicas, that says who has what. It moves nothing itself: how the numbers travel is the trainer's.
 */
import { describeMissing, finish, hashNumbers, mix, whoHasWhat } from '../mirror/fingerprint.js';
import { CHECK_STEPS, checkEqual } from '../mirror/mirrored-variables.js';
import type { StepInput } from './local-step.js';
import type { TrainerSegment } from './trainer.js';

/** Numbers of one replica's report. */
export const REPORT = 7;
const [LOSS, STOP, GRADIENTS, RATE, SCALE, INPUTS, WEIGHTS] = [0, 1, 2, 3, 4, 5, 6];

/** What one replica reports. */
export interface OwnStep {
  /** Its loss, without weight decay. */
  readonly loss: number;
  /** Whether it was asked to stop. */
  readonly stop?: boolean;
  /** 1 for each variable that has a gradient. */
  readonly produced: Uint8Array;
  readonly learningRate: number;
  readonly lossScale: number;
  readonly inputs: readonly StepInput[] | undefined;
}

/** The same on all replicas. */
export interface ReadReports {
  /** Sum of the losses, in replica order. */
  readonly lossSum: number;
  /** Whether any replica was asked to stop. */
  readonly stop: boolean;
}

export interface StepReportsOptions {
  readonly segments: readonly TrainerSegment[];
  /** Ordered values of all replicas; used only where something differs. */
  readonly gather: <T>(value: T) => T[];
  /**
   * Where processes have copies of the weights: all weights, and this replica's part of them, which the replica with the same place
   * in another process compares. Absent where there is one copy.
   */
  readonly copies?: { readonly weights: Float32Array; readonly part: Float32Array; readonly replicasPerCopy: number };
}

/** See the file's head. */
export class StepReports {
  readonly #own = new Float64Array(REPORT);
  #step: OwnStep | null = null;
  #steps = 0;

  constructor(private readonly options: StepReportsOptions) {}

  /** This replica's report. The same array in every step. */
  write(step: OwnStep): Float64Array {
    const own = this.#own;
    this.#step = step;
    own[LOSS] = step.loss;
    own[STOP] = step.stop ? 1 : 0;
    own[GRADIENTS] = hashNumbers(step.produced);
    own[RATE] = step.learningRate;
    own[SCALE] = step.lossScale;
    own[INPUTS] = step.inputs ? hashInputs(step.inputs) : 0;
    const { copies } = this.options;
    own[WEIGHTS] = copies && this.#steps % CHECK_STEPS === 0 ? hashNumbers(copies.part) : 0;
    this.#steps++;
    return own;
  }

  /**
   * @param reports Of all replicas, replica 0's first.
   * @param beforeError Runs on all replicas if something differs, before they talk about it: waits for what is on its way.
   * @throws Error, the same on all replicas, if something differs that must not.
   */
  read(reports: Float64Array, beforeError?: () => void): ReadReports {
    let lossSum = 0;
    let stop = false;
    let isSame = true;
    const perCopy = this.options.copies?.replicasPerCopy ?? 1;
    for (let at = 0; at < reports.length; at += REPORT) {
      lossSum += reports[at + LOSS] as number;
      stop ||= reports[at + STOP] === 1;
      for (let i = GRADIENTS; i < WEIGHTS; i++) isSame &&= reports[at + i] === reports[i];
      isSame &&= reports[at + WEIGHTS] === reports[(at % (perCopy * REPORT)) + WEIGHTS];
    }
    if (!isSame) {
      beforeError?.();
      this.#explain(reports);
    }
    return { lossSum, stop };
  }

  /** Compares the copies of the weights now: before they are saved. Collective. @throws Error naming the first variable. */
  check(when: string): void {
    const { copies, segments, gather } = this.options;
    if (!copies) return;
    const { weights, replicasPerCopy } = copies;
    const named = segments.map(({ name, offset, length }) => ({
      name,
      values: () => weights.subarray(offset, offset + length),
    }));
    const oneOfEach = <T>(value: T) => gather(value).filter((_, replica) => replica % replicasPerCopy === 0);
    checkEqual(named, { gather: oneOfEach }, when, 'worker');
  }

  #explain(reports: Float64Array): never {
    const { gather, segments } = this.options;
    const step = this.#step as OwnStep;
    const when = `in step ${this.#steps}`;
    const column = (i: number) =>
      Array.from({ length: reports.length / REPORT }, (_, replica) => reports[REPORT * replica + i] as number);
    const differs = (i: number) => column(i).some((value) => value !== reports[i]);
    if (differs(RATE)) {
      throw new Error(
        `Replicas gave different learning rates ${when}: ${whoHasWhat(column(RATE).map(String))}.\n` +
          'help: compute it from what all replicas know, such as the step, StepResult.loss, or context.averageMetrics(logs); not from ' +
          "the replica's own loss.",
      );
    }
    if (differs(SCALE)) {
      throw new Error(
        `Replicas have different loss scales ${when}: ${whoHasWhat(column(SCALE).map(String))}.\n` +
          'help: give the same lossScale, and call restoreLossScale(), on every replica.',
      );
    }
    if (differs(GRADIENTS)) {
      const names = gather(segments.flatMap((_, i) => (step.produced[i] === 1 ? [i] : [])));
      const missing = describeMissing(
        names.map((list) => list.map((i) => segments[i]?.name ?? String(i))),
        'one',
      );
      throw new Error(
        `Replicas produced gradients of different variables ${when}: ${missing}.\n` +
          'help: the loss must use the same variables on every replica; add tf.mul(0, tf.sum(variable)) for one that a batch does not ' +
          'need.',
      );
    }
    if (differs(INPUTS)) {
      const shapes = gather(step.inputs ? step.inputs.map(describeInput).join(' and ') : 'none');
      throw new Error(
        `Replicas gave different inputs to step ${this.#steps}: ${whoHasWhat(shapes)}.\n` +
          'help: only the number of examples, the first of a shape, may differ, as it does where a last batch cannot be dealt out evenly.',
      );
    }
    this.check(`before the update ${when}`);
    throw new Error(
      `Workers had different weights ${when}, and have equal ones now: somebody writes to trainer.weights in a step.`,
    );
  }
}

/** Of the shapes but for the number of examples, which a last batch may have fewer of, and the element types. */
function hashInputs(inputs: readonly StepInput[]): number {
  let hash = mix(0, inputs.length);
  for (let i = 0; i < inputs.length; i++) {
    const { values, shape } = inputs[i] as StepInput;
    hash = mix(mix(hash, values instanceof Int32Array ? 1 : 2), shape.length);
    for (let axis = 1; axis < shape.length; axis++) hash = mix(hash, shape[axis] as number);
  }
  return finish(hash, inputs.length);
}

function describeInput({ values, shape }: StepInput): string {
  return `${values instanceof Int32Array ? 'int32' : 'float32'} [${shape}]`;
}
