/**
 * The end of a residual block (He et al., arXiv:1512.03385) in one pass each way: batch norm, the shortcut's addition and ReLU; and backward
 * the sum of the two gradients that arrive, ReLU's gradient and batch norm's. fusion.ts runs these, and nobody by name.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { type BackwardInputs, type ForwardInputs, goBack, goForward, goodGradient, NOT_MADE } from './batch-norm.js';
import type { BatchNormAttrs } from './batch-norm-plans.js';
import { areFinite } from './elementwise.js';
import { kernel } from './kernel.js';
import { addSame, reluGradient } from './residual.js';
import { floatsOf } from './tools.js';
import { applyInPlace } from './unary.js';

const RELU = { activation: 'relu' } as const;
const LINEAR = { activation: 'linear' } as const;

/** x, addend [n, …, c], scale, offset [c] → max(norm(x) + addend, 0), batch mean [c], biased batch variance [c]. */
const forward = kernel<Required<ForwardInputs>, BatchNormAttrs>(
  'FusedBatchNormAddRelu',
  ({ inputs, attrs, backend }) => {
    const { x, scale, offset, addend } = inputs;
    const { runtime } = backend;
    const other = backend.storage(addend).finite;
    const [y, mean, variance] = goForward(backend, inputs, { ...attrs, ...RELU });
    const areGood = areFinite(runtime, ...floatsOf(backend, mean, variance, scale, offset));
    const verdict = runtime.judge(() => areGood.holds && other?.holds === true);
    // Where something is not finite, NaN must not become 0.
    const [result] = backend.keepIf(verdict, [x, scale, offset, addend], [y], (input, factor, shift, shortcut) => {
      const parts = { x: input, scale: factor, offset: shift };
      const [linear, ...rest] = goForward(backend, parts, { ...attrs, ...LINEAR });
      for (const { dataId } of rest) backend.disposeData(dataId);
      const sum = addSame(backend, linear, shortcut, false);
      backend.disposeData(linear.dataId);
      return [applyInPlace(backend, sum, 'Relu')];
    });
    backend.storage(result).finite = verdict;
    return [result, mean, variance];
  },
);

/**
 * dy, x, y [n, …, c]; scale, mean, variance [c]; second [n, …, c] or none → dx, gradient of scale, gradient of offset, and ReLU's gradient,
 * which is the shortcut's. The gradient that arrives is dy + second.
 */
const backward = kernel<BackwardInputs, BatchNormAttrs>('FusedBatchNormAddReluGrad', ({ inputs, attrs, backend }) => {
  const { dy, second, x, scale, y, mean, variance } = inputs;
  const { finite, companion } = backend.storage(y);
  const isMade = companion !== null || finite === null;
  const results = isMade ? goBack(backend, inputs, { ...attrs, ...RELU }, true) : [];
  const parts = second ? [dy, second] : [dy];
  const verdict = isMade ? goodGradient(backend, parts, finite, floatsOf(backend, ...results.slice(1, 3))) : NOT_MADE;
  const operands = [x, scale, y, mean, variance, ...parts];
  return backend.keepIf(verdict, operands, results, (...tensors) => {
    const [input, factor, result, middle, spread, first, rest] = tensors as [
      ...[TensorInfo, TensorInfo, TensorInfo, TensorInfo, TensorInfo, TensorInfo],
      TensorInfo?,
    ];
    const whole = rest ? addSame(backend, first, rest, false) : first;
    const up = reluGradient(backend, whole, result);
    if (rest) backend.disposeData(whole.dataId);
    const plainInputs = { dy: up, x: input, scale: factor, y: result, mean: middle, variance: spread };
    return [...goBack(backend, plainInputs, { ...attrs, ...LINEAR }), up];
  });
});

export const batchNormResidualKernels = [forward, backward];
