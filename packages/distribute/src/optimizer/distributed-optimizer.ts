/**
 * Any TensorFlow.js optimizer, made distributed: between computing and applying gradients they are averaged over replicas.
 *
 * `applyGradients` is the one door through which `minimize`, `model.fit` and hand-written loops go, so replacing it leaves
 * learning rates, slots and saving the optimizer's own. Every replica applies the same bits and stays a mirror. That all
 * begin alike is seen to as well: before the first gradients are computed, replica 0's values go to everybody.
 */
import * as tf from '@tensorflow/tfjs-core';

/** What this file needs of a replica. */
export interface GradientReducer {
  /** Mean over replicas of each tensor; new tensors. Collective. */
  mean(tensors: tf.Tensor[]): tf.Tensor[];
  /** Gives every replica replica 0's values. Collective. */
  mirror(variables: tf.Variable[]): void;
  /** Counts the step. */
  beginStep(): void;
}

interface NamedGradient {
  readonly name: string;
  readonly tensor: tf.Tensor;
}
type Gradients = Parameters<tf.Optimizer['applyGradients']>[0];

/** Known to backends that record steps of `model.fit`. */
const TRACEABLE = Symbol.for('lockstep.traceable');

const distributed = new WeakSet<tf.Optimizer>();

/**
 * Replaces the optimizer's `applyGradients` (and `computeGradients`, to mirror first) and returns the same optimizer.
 * @throws Error if it is distributed already: gradients would be averaged twice.
 */
export function distributeOptimizer<Optimizer extends tf.Optimizer>(
  optimizer: Optimizer,
  reducer: GradientReducer,
): Optimizer {
  if (distributed.has(optimizer)) {
    throw new Error('This optimizer is distributed already.\nhelp: call context.optimizer() once per optimizer.');
  }
  distributed.add(optimizer);
  const compute = optimizer.computeGradients.bind(optimizer);
  let isMirrored = false;
  const mirrorThenCompute: typeof compute = (f, varList) => {
    if (!isMirrored) {
      isMirrored = true;
      const variables = varList ?? Object.values(tf.engine().registeredVariables);
      reducer.mirror(variables.filter((variable) => variable.trainable));
    }
    return compute(f, varList);
  };
  // A backend that records steps may leave it out in replays: mirroring has been done by then.
  optimizer.computeGradients = Object.assign(mirrorThenCompute, { [TRACEABLE]: true });
  const apply = optimizer.applyGradients.bind(optimizer);
  optimizer.applyGradients = (gradients: Gradients): void => {
    reducer.beginStep();
    const named = namedGradients(gradients);
    // A variable that the loss does not depend on has no gradient, on any replica.
    const present = named.filter((gradient) => gradient.tensor != null);
    const reduced = reducer.mean(present.map((gradient) => gradient.tensor));
    const tensorOf = new Map(present.map((gradient, i) => [gradient.name, reduced[i] as tf.Tensor]));
    try {
      if (Array.isArray(gradients)) {
        apply(named.map(({ name }) => ({ name, tensor: tensorOf.get(name) ?? null })) as never);
      } else apply(Object.fromEntries(named.map(({ name }) => [name, tensorOf.get(name) ?? null])) as never);
    } finally {
      tf.dispose(reduced);
    }
  };
  return optimizer;
}

function namedGradients(gradients: Gradients): NamedGradient[] {
  if (Array.isArray(gradients)) return gradients as NamedGradient[];
  return Object.entries(gradients).map(([name, tensor]) => ({ name, tensor: tensor as tf.Tensor }));
}
