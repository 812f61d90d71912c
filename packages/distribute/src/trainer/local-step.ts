/**
 * A replica's own part of a step: the loss, its gradients one by one, and how long either took. The same for every trainer;
 * what becomes of the gradients is the trainer's.
 *
 * A loss that takes its batch as arguments can be recorded by a backend that knows how (see {@link Program}): from then on a
 * step costs no tape and no garbage. The batch is copied to tensors that stay, so that a recording finds it.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type HostAccess, observe, type StepProgram } from '../devices/host-access.js';
import { backward, type GradientCallback } from './backward.js';

/** A part of a batch. */
export interface StepInput {
  /** Elements in row-major order; copied. */
  readonly values: Float32Array | Int32Array;
  readonly shape: readonly number[];
}

/**
 * The mean over a replica's batch, a scalar.
 *
 * Given inputs, it is treated as `tf.function` treats a function: run while it is traced, replayed afterwards. It must compute
 * all that it returns, or has observed, from its arguments, from variables, and from tensors that stay; and it must be the
 * same function in every step, so make it once.
 */
export type Loss = (...inputs: tf.Tensor[]) => tf.Scalar;

/** A loss with the tensors that hold its batch. */
interface Traced {
  readonly tensors: readonly tf.Tensor[];
  readonly values: readonly (Float32Array | Int32Array)[];
  readonly program: StepProgram;
}

/** Batches of different shapes (the last of an epoch) and loss scales that are kept at a time, for each loss. */
const MAX_TRACED = 4;
/** Losses that are kept at a time. Whoever makes one in every step gains nothing, but loses no memory either. */
const MAX_LOSSES = 8;

/** See the file's head. */
export class LocalStepRunner {
  readonly #traced = new Map<Loss, Map<string, Traced>>();
  #loss = Number.NaN;
  #begin = 0;
  #forwardDone = 0;

  /** @param onGradient as for {@link backward}; it also runs in replays, and must read the gradient by {@link HostAccess.read}. */
  constructor(
    private readonly variables: readonly tf.Variable[],
    private readonly onGradient: GradientCallback,
    private readonly access: HostAccess,
  ) {}

  /** Of the last step, once what was read has settled. */
  get loss(): number {
    return this.#loss;
  }

  /** When the last step began, in milliseconds since some moment. */
  get begin(): number {
    return this.#begin;
  }

  /** When its forward pass was done. */
  get forwardDone(): number {
    return this.#forwardDone;
  }

  /**
   * Runs `loss` and backward. On return all gradients have been handed out; on what {@link HostAccess.settled} gives then, the loss is
   * known and `onGradient` has seen its reads land.
   */
  run(loss: Loss, lossScale: number, inputs?: readonly StepInput[]): void {
    this.#begin = performance.now();
    this.#checkTrainable();
    const traced = inputs ? this.#trace(loss, lossScale, inputs) : null;
    if (traced) traced.program.run(() => this.#differentiate(() => loss(...traced.tensors), lossScale));
    else if (inputs) {
      tf.tidy(() => {
        const tensors = inputs.map(({ values, shape }) => tf.tensor(values, [...shape]));
        this.#differentiate(() => loss(...tensors), lossScale);
      });
    } else this.#differentiate(loss, lossScale);
  }

  /** TensorFlow.js would leave such a variable out; here momentum and weight decay would go on moving it. */
  #checkTrainable(): void {
    for (const { name, trainable } of this.variables) {
      if (trainable) continue;
      throw new Error(
        `Variable '${name}' was frozen (trainable = false) after the trainer had been made.\n` +
          'help: make another trainer of the variables that are still to be trained, on every replica.',
      );
    }
  }

  #differentiate(loss: () => tf.Scalar, lossScale: number): void {
    tf.tidy(() => {
      const onForward = () => {
        this.#forwardDone = performance.now();
      };
      const value = backward(loss, this.variables, this.onGradient, {
        lossScale,
        onForward: () => observe([], onForward),
      });
      observe([value], ([scalar]: Float32Array) => {
        this.#loss = scalar as number;
      });
    });
  }

  #trace(loss: Loss, lossScale: number, inputs: readonly StepInput[]): Traced | null {
    const { access } = this;
    if (!access.program || !access.aliases) return null;
    const key = `${lossScale} ${inputs.map(({ shape, values }) => `${values.constructor.name} ${shape}`).join('; ')}`;
    let known = this.#traced.get(loss);
    if (!known) {
      if (this.#traced.size >= MAX_LOSSES) {
        const [oldest, all] = this.#traced.entries().next().value as [Loss, Map<string, Traced>];
        for (const own of all.values()) release(own);
        this.#traced.delete(oldest);
      }
      known = new Map();
      this.#traced.set(loss, known);
    }
    let traced = known.get(key);
    if (!traced) {
      if (known.size >= MAX_TRACED) {
        const [oldest, own] = known.entries().next().value as [string, Traced];
        release(own);
        known.delete(oldest);
      }
      const values = inputs.map((input) => input.values.slice());
      const tensors = inputs.map(({ shape }, i) => tf.keep(tf.tensor(values[i] as Float32Array, [...shape])));
      traced = { tensors, values, program: access.program() };
      known.set(key, traced);
    }
    for (const [i, { values }] of inputs.entries()) (traced.values[i] as Float32Array).set(values as Float32Array);
    return traced;
  }
}

function release({ program, tensors }: Traced): void {
  program.dispose();
  tf.dispose([...tensors]);
}
