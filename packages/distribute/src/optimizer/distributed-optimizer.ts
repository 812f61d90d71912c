/**
 * Any TensorFlow.js optimizer, made distributed: between computing and applying gradients they are averaged over replicas.
 *
 * Only `applyGradients` is replaced, the one door through which `minimize`, `model.fit` and hand-written loops go, so
 * learning rates, slots and saving stay the optimizer's own. Every replica applies the same bits and stays a mirror.
 */
import * as tf from '@tensorflow/tfjs-core';

/** What this file needs of a replica. */
export interface GradientReducer {
  /** Mean over replicas of each tensor; new tensors. Collective. */
  mean(tensors: tf.Tensor[]): tf.Tensor[];
  /** Counts the step. */
  beginStep(): void;
}

interface NamedGradient {
  readonly name: string;
  readonly tensor: tf.Tensor;
}
type Gradients = Parameters<tf.Optimizer['applyGradients']>[0];

const distributed = new WeakSet<tf.Optimizer>();

/**
 * Replaces the optimizer's `applyGradients` and returns the same optimizer.
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
