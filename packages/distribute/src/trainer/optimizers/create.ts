/** From an optimizer's plain data to the optimizer: the one place that knows all kinds, and that the compiler keeps complete. */
import { describe } from '../../describe.js';
import { type AdamConfig, type AdamWConfig, adam, adamw } from './adam.js';
import { type LarsConfig, lars } from './lars.js';
import { type MomentumConfig, momentum } from './momentum.js';
import type { FlatOptimizer } from './optimizer.js';
import { type RmsPropConfig, rmsprop } from './rmsprop.js';
import { type SgdConfig, sgd } from './sgd.js';

/** An optimizer as plain data: it crosses threads and processes. */
export type OptimizerConfig = SgdConfig | MomentumConfig | AdamConfig | AdamWConfig | RmsPropConfig | LarsConfig;

/** Every kind, for messages. */
const KINDS: Readonly<Record<OptimizerConfig['kind'], true>> = {
  sgd: true,
  momentum: true,
  adam: true,
  adamw: true,
  rmsprop: true,
  lars: true,
};

/** @throws TypeError for a kind that there is not; RangeError for numbers that mean nothing. */
export function flatOptimizer(config: OptimizerConfig): FlatOptimizer {
  switch (config?.kind) {
    case 'sgd':
      return sgd(config);
    case 'momentum':
      return momentum(config);
    case 'adam':
      return adam(config);
    case 'adamw':
      return adamw(config);
    case 'rmsprop':
      return rmsprop(config);
    case 'lars':
      return lars(config);
    default:
      return unknown(config satisfies never);
  }
}

function unknown(config: unknown): never {
  const kinds = Object.keys(KINDS).map((kind) => `'${kind}'`);
  const isObject = typeof config === 'object' && config !== null;
  const given = isObject && 'kind' in config ? `kind ${describe(config.kind)}` : describe(config);
  throw new TypeError(
    `The optimizer of trainer() must be { kind: ${kinds.join(' | ')}, … }, got ${given}.\n` +
      "help: context.optimizer(tf.train.adam()) distributes TensorFlow.js' own; here it is { kind: 'momentum', momentum: 0.9 }, for instance.",
  );
}
