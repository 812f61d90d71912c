/**
 * The factor on the loss that keeps small gradients from vanishing in 16-bit types: a fixed number, or one that finds itself
 * (Micikevicius et al., arXiv:1710.03740; TensorFlow's DynamicLossScale): it doubles after a number of good steps, and a step
 * whose gradients are not finite is skipped and halves it.
 *
 * Every replica keeps its own and all stay equal, because whether a step's sums are finite is the same answer everywhere.
 */

export interface DynamicLossScale {
  /** First factor. Default 2¹⁵, as TensorFlow. */
  readonly initial?: number;
  /** Good steps in a row after which it doubles. Default 2000, as TensorFlow. */
  readonly growthSteps?: number;
}

/** A number is fixed; 'dynamic' is a {@link DynamicLossScale} with its defaults. */
export type LossScaleOption = number | 'dynamic' | DynamicLossScale;

/** What a dynamic scale knows: save it with the weights, and a run that goes on scales as if it had never stopped. */
export interface LossScaleState {
  /** Factor of the next step. */
  readonly value: number;
  /** Good steps in a row since the factor last changed. */
  readonly goodSteps: number;
}

const DEFAULT_INITIAL = 2 ** 15;
const DEFAULT_GROWTH_STEPS = 2000;
/** f32 ends at 2¹²⁸; a scale up there is no more than a way to overflow. */
const MAXIMUM = 2 ** 100;

/** See the file's head. */
export class LossScale {
  readonly isDynamic: boolean;
  readonly #growthSteps: number;
  #value: number;
  #goodSteps = 0;

  /** @throws RangeError for a scale or a number of steps that is not positive and finite; TypeError for anything else. */
  constructor(option: LossScaleOption = 1) {
    if (typeof option !== 'number' && option !== 'dynamic' && (typeof option !== 'object' || option === null)) {
      throw new TypeError(
        `lossScale must be a number, 'dynamic', or { initial, growthSteps }, got ${String(option)} (${typeof option}).`,
      );
    }
    this.isDynamic = typeof option !== 'number';
    const { initial = DEFAULT_INITIAL, growthSteps = DEFAULT_GROWTH_STEPS } = typeof option === 'object' ? option : {};
    this.#value = typeof option === 'number' ? option : initial;
    this.#growthSteps = growthSteps;
    if (typeof this.#value !== 'number' || !(this.#value > 0 && Number.isFinite(this.#value))) {
      throw new RangeError(`lossScale must be positive and finite, got ${this.#value}.`);
    }
    if (!Number.isInteger(growthSteps) || growthSteps < 1) {
      throw new RangeError(`growthSteps of the loss scale must be a positive integer, got ${growthSteps}.`);
    }
  }

  /** The factor of the next step. */
  get value(): number {
    return this.#value;
  }

  /** For a checkpoint; null for a fixed scale, which needs none. */
  get state(): LossScaleState | null {
    return this.isDynamic ? { value: this.#value, goodSteps: this.#goodSteps } : null;
  }

  /**
   * Goes on where another left off. Without effect on a fixed scale.
   * @throws RangeError for what no scale can have been: value is to be positive and finite, goodSteps a count.
   */
  restore({ value, goodSteps }: LossScaleState): void {
    if (!this.isDynamic) return;
    if (!(value > 0 && Number.isFinite(value))) {
      throw new RangeError(`value of a loss scale's state must be positive and finite, got ${value}.`);
    }
    if (!Number.isInteger(goodSteps) || goodSteps < 0) {
      throw new RangeError(`goodSteps of a loss scale's state must be a whole number, got ${goodSteps}.`);
    }
    this.#value = value;
    this.#goodSteps = goodSteps;
  }

  /**
   * Takes note of a step. Without effect on a fixed scale.
   * @param finite Whether every summed gradient was a finite number.
   * @returns whether this makes up for it: false if gradients are not finite though the scale is 1 already, or fixed.
   */
  settle(finite: boolean): boolean {
    if (!this.isDynamic) return finite;
    if (finite) {
      this.#goodSteps++;
      if (this.#goodSteps >= this.#growthSteps) {
        this.#goodSteps = 0;
        this.#value = Math.min(2 * this.#value, MAXIMUM);
      }
      return true;
    }
    this.#goodSteps = 0;
    if (this.#value <= 1) return false;
    this.#value = Math.max(1, this.#value / 2);
    return true;
  }
}
