/**
 * TensorFlow.js' optimizers as the flat path knows them: what each is as plain data, and where it keeps its state. Of exactly these
 * classes; one of the user's own, a class made from one of these included, is applied by itself.
 *
 * Source: tfjs-core's optimizers/*_optimizer.ts; most members are protected there, and none of their names has changed since 1.0.
 */
import * as tf from '@tensorflow/tfjs-core';
import { flatOptimizer, type OptimizerConfig } from './optimizers/create.js';

/** A slot of one variable, as TensorFlow.js keeps it: at the variable's place in the list of gradients. */
export interface SlotVariable {
  readonly originalName: string;
  readonly variable: tf.Variable;
}

/** See the file's head. Read anew in every step: whoever loads an optimizer replaces its lists. */
export interface KnownOptimizer {
  readonly config: OptimizerConfig;
  readonly learningRate: number;
  /** Whether an update depends on how many there have been: the optimizer's `iterations`. */
  readonly counts: boolean;
  /** In the order of the flat optimizer's slots. */
  readonly slots: readonly SlotList[];
  /** Sets what TensorFlow.js keeps of the number of updates beside that number, which is all that the flat path counts. */
  settle?(): void;
}

export interface SlotList {
  /** TensorFlow.js' name for the slot of variable 'w' is 'w/suffix'. */
  readonly suffix: string;
  readonly list: (SlotVariable | undefined)[];
}

interface Sgd {
  readonly learningRate: number;
}
interface Momentum extends Sgd {
  readonly momentum: number;
  readonly useNesterov: boolean;
  readonly accumulations: SlotVariable[];
}
interface Adam extends Sgd {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly iterations: number;
  readonly accBeta1: tf.Variable;
  readonly accBeta2: tf.Variable;
  readonly accumulatedFirstMoment: SlotVariable[];
  readonly accumulatedSecondMoment: SlotVariable[];
}
interface RmsProp extends Sgd {
  readonly decay: number;
  readonly momentum: number;
  readonly epsilon: number;
  readonly centered: boolean;
  readonly accumulatedMeanSquares: SlotVariable[];
  readonly accumulatedMoments: SlotVariable[];
  readonly accumulatedMeanGrads: SlotVariable[];
}

/** Null for any other optimizer, and for settings that the flat path refuses. */
export function knownOptimizer(optimizer: tf.Optimizer): KnownOptimizer | null {
  const known = describe(optimizer);
  if (known === null) return null;
  try {
    return { ...known, counts: flatOptimizer(known.config).counts };
  } catch {
    // TensorFlow.js takes numbers that mean nothing, and goes on with them.
    return null;
  }
}

function describe(optimizer: object): Omit<KnownOptimizer, 'counts'> | null {
  switch (Object.getPrototypeOf(optimizer)) {
    case tf.SGDOptimizer.prototype:
      return { config: { kind: 'sgd' }, learningRate: (optimizer as Sgd).learningRate, slots: [] };
    case tf.MomentumOptimizer.prototype: {
      const { learningRate, momentum, useNesterov, accumulations } = optimizer as Momentum;
      return {
        config: { kind: 'momentum', momentum, nesterov: useNesterov },
        learningRate,
        slots: [{ suffix: 'momentum', list: accumulations }],
      };
    }
    case tf.AdamOptimizer.prototype: {
      const adam = optimizer as Adam;
      const { learningRate, beta1, beta2, epsilon } = adam;
      return {
        config: { kind: 'adam', beta1, beta2, epsilon },
        learningRate,
        slots: [
          { suffix: 'm', list: adam.accumulatedFirstMoment },
          { suffix: 'v', list: adam.accumulatedSecondMoment },
        ],
        settle: () => settleAdam(adam),
      };
    }
    case tf.RMSPropOptimizer.prototype: {
      const rms = optimizer as RmsProp;
      const { learningRate, decay, momentum, epsilon, centered } = rms;
      const slots = [
        { suffix: 'rms', list: rms.accumulatedMeanSquares },
        { suffix: 'momentum', list: rms.accumulatedMoments },
      ];
      if (centered) slots.push({ suffix: 'mg', list: rms.accumulatedMeanGrads });
      return { config: { kind: 'rmsprop', decay, momentum, epsilon, centered }, learningRate, slots };
    }
    default:
      return null;
  }
}

/** The powers of β that the next update divides by, as `setWeights` computes them. */
function settleAdam({ beta1, beta2, iterations, accBeta1, accBeta2 }: Adam): void {
  tf.tidy(() => {
    accBeta1.assign(tf.scalar(beta1 ** (iterations + 1)));
    accBeta2.assign(tf.scalar(beta2 ** (iterations + 1)));
  });
}
