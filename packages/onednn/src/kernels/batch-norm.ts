/**
 * Batch normalization over the last axis with ReLU fused (Ioffe & Szegedy, arXiv:1502.03167), forward and backward as one
 * primitive each, under the names of TensorFlow's operations: FusedBatchNormV3, FusedBatchNormGradV3. TensorFlow.js itself
 * has only inference (FusedBatchNorm) and composes the gradient of about twenty kernels.
 *
 * `activation: 'relu'` costs nothing: one bit per element is kept, and those bits live with the output's data.
 */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Arg, NormalizationFlag, Prop } from '../ffi/constants.js';
import type { MemoryDescriptor } from '../ffi/dnnl.js';
import type { Verdict } from '../memory/step-listener.js';
import type { PrimitiveArgument } from '../primitive.js';
import { type BatchNormAttrs, backwardPlan, forwardPlan, view } from './batch-norm-plans.js';
import { areFinite, finiteness } from './elementwise.js';
import { isFloat, kernel } from './kernel.js';
import { addSame, reluGradient } from './residual.js';
import { floatsOf, plainAddress, SMALL, viewOf } from './tools.js';
import { applyInPlace } from './unary.js';

const { useScale, useShift, fuseNormRelu, useGlobalStats } = NormalizationFlag;
const RELU_BITS = 'batch norm relu';

interface ForwardInputs {
  readonly x: TensorInfo;
  readonly scale: TensorInfo;
  readonly offset: TensorInfo;
  /** What is added before ReLU, only where {@link takesResidual} says that it can. */
  readonly addend?: TensorInfo;
}

/** x [n, …, c], scale [c], offset [c] → y, batch mean [c], biased batch variance [c]. */
const forward = kernel<ForwardInputs, BatchNormAttrs>('FusedBatchNormV3', ({ inputs, attrs, backend }) => {
  const { x, scale, offset } = inputs;
  if (!isFloat(x, scale, offset) || x.shape.length < 2) return null;
  return goForward(backend, inputs, attrs);
});

/**
 * The end of a residual block (He et al., arXiv:1512.03385) in one pass: x, addend [n, …, c], scale, offset [c] → max(norm(x) + addend, 0),
 * batch mean [c], biased batch variance [c].
 */
const residualForward = kernel<ForwardInputs, BatchNormAttrs>('FusedBatchNormAddRelu', ({ inputs, attrs, backend }) =>
  goForward(backend, inputs, { ...attrs, activation: 'relu' }),
);

function goForward(backend: OneDnnBackend, inputs: ForwardInputs, attrs: BatchNormAttrs): Normalized {
  const { runtime } = backend;
  const { x, scale, offset, addend } = inputs;
  const other = addend && backend.storage(addend).finite;
  const [y, mean, variance] = normalizeBatch(backend, inputs, attrs);
  const isNormGood = areFinite(runtime, ...floatsOf(backend, mean, variance, scale, offset));
  const verdict = addend ? runtime.judge(() => isNormGood.holds && other?.holds === true) : isNormGood;
  backend.storage(y).finite = verdict;
  if (attrs.activation !== 'relu') return [y, mean, variance];
  // A fused ReLU makes 0 of NaN. Mean and variance depend on every element, so they tell whether there is one.
  const operands = addend ? [x, scale, offset, addend] : [x, scale, offset];
  const [result] = backend.keepIf(verdict, operands, [y], (...tensors) => {
    const [input, factor, shift, shortcut] = tensors as [TensorInfo, TensorInfo, TensorInfo, TensorInfo?];
    const parts = { x: input, scale: factor, offset: shift };
    const [linear, ...rest] = normalizeBatch(backend, parts, { ...attrs, activation: 'linear' });
    for (const { dataId } of rest) backend.disposeData(dataId);
    const sum = shortcut ? addSame(backend, linear, shortcut, false) : linear;
    if (shortcut) backend.disposeData(linear.dataId);
    return [applyInPlace(backend, sum, 'Relu')];
  });
  backend.storage(result as TensorInfo).finite = verdict;
  return [result as TensorInfo, mean, variance];
}

type Normalized = [y: TensorInfo, mean: TensorInfo, variance: TensorInfo];

function normalizeBatch(
  backend: OneDnnBackend,
  { x, scale, offset, addend }: ForwardInputs,
  attrs: BatchNormAttrs,
): Normalized {
  const { runtime } = backend;
  const plain = view(runtime, x.shape);
  const layout = backend.layoutOf(x, plain);
  const { primitive, bitBytes } = forwardPlan(runtime, x.shape, layout, attrs, {
    residual: addend !== undefined,
    hasSecond: false,
  });
  const y = backend.allocate(x.shape, 'float32', { current: layout, plain });
  const channels = [x.shape.at(-1) as number];
  const mean = backend.allocate(channels);
  const variance = backend.allocate(channels);
  const output = backend.storage(y);
  const addresses = [
    backend.storage(x).address,
    output.address,
    plainAddress(backend, scale),
    plainAddress(backend, offset),
    backend.storage(mean).address,
    backend.storage(variance).address,
  ];
  if (bitBytes > 0) {
    const buffer = runtime.pool.acquire(bitBytes);
    output.companion = { kind: RELU_BITS, buffer, layout };
    addresses.push(buffer.address);
  }
  if (!addend) primitive.run(...addresses);
  else backend.withLayout(addend, plain, layout, (address) => primitive.run(...addresses, address));
  return [y, mean, variance];
}

/**
 * dy, x, y [n, …, c]; scale, mean, variance [c] → dx, gradient of scale, gradient of offset. `y` is read only for its ReLU
 * bits, so it must be the tensor that the forward pass returned.
 */
const backward = kernel<BackwardInputs, BatchNormAttrs>('FusedBatchNormGradV3', ({ inputs, attrs, backend }) => {
  const { dy, x, scale, mean, variance } = inputs;
  if (!isFloat(dy, x, scale, mean, variance)) return null;
  return attrs.activation === 'relu' ? goBack(backend, inputs, attrs, false) : differentiate(backend, inputs, attrs);
});

/**
 * The end of a residual block: dy, second (or none), x, y [n, …, c]; scale, mean, variance [c] → dx, gradient of scale, gradient of offset,
 * and ReLU's gradient, which is the shortcut's. The gradient that arrives is dy + second.
 */
const residualBackward = kernel<BackwardInputs, BatchNormAttrs>(
  'FusedBatchNormAddReluGrad',
  ({ inputs, attrs, backend }) => goBack(backend, inputs, { ...attrs, activation: 'relu' }, true),
);

/** Through ReLU, too. */
function goBack(
  backend: OneDnnBackend,
  inputs: BackwardInputs,
  attrs: BatchNormAttrs,
  residual: boolean,
): TensorInfo[] {
  const { dy, second, x, scale, y, mean, variance } = inputs;
  const { finite, companion } = backend.storage(y);
  const isMade = companion !== null || finite === null;
  const results = isMade ? differentiate(backend, inputs, attrs, residual) : [];
  const parts = second ? [dy, second] : [dy];
  // The bits know no NaN: not in y, and not in a gradient where y is 0, which times 0 is NaN. Whatever is not finite in dy and is
  // let through in one place of a channel is in its sums; of few elements all are looked at.
  const sums = floatsOf(backend, ...results.slice(1, 3));
  const verdict = isMade ? goodGradient(backend, parts, finite, sums) : NOT_MADE;
  return backend.keepIf(verdict, [x, scale, y, mean, variance, ...parts], results, (...tensors) => {
    const [input, factor, result, middle, spread, first, rest] = tensors as [
      ...[TensorInfo, TensorInfo, TensorInfo, TensorInfo, TensorInfo, TensorInfo],
      TensorInfo?,
    ];
    const arriving = rest ? addSame(backend, first, rest, false) : first;
    const up = reluGradient(backend, arriving, result);
    if (rest) backend.disposeData(arriving.dataId);
    const plainInputs = { dy: up, x: input, scale: factor, y: result, mean: middle, variance: spread };
    const composed = differentiate(backend, plainInputs, { ...attrs, activation: 'linear' });
    if (residual) return [...composed, up];
    backend.disposeData(up.dataId);
    return composed;
  });
}

const NOT_MADE: Verdict = { holds: false };
/** Elements of a gradient up to which a pass over it is nothing. */
const FEW = 2 ** 16;

function goodGradient(
  backend: OneDnnBackend,
  dy: readonly TensorInfo[],
  finite: Verdict | null,
  sums: readonly Float32Array[],
): Verdict {
  const { runtime } = backend;
  const haveGoodSums = areFinite(runtime, ...sums);
  const few = dy.filter(({ shape }) => util.sizeFromShape(shape) <= FEW).map((part) => finiteness(backend, part));
  return runtime.judge(() => finite?.holds !== false && haveGoodSums.holds && few.every(({ holds }) => holds));
}

interface BackwardInputs {
  readonly dy: TensorInfo;
  readonly x: TensorInfo;
  readonly scale: TensorInfo;
  readonly y: TensorInfo;
  readonly mean: TensorInfo;
  readonly variance: TensorInfo;
  /** The rest of the gradient that arrives, of which dy is a part; only with `residual`. */
  readonly second?: TensorInfo;
}

/** @param residual whether y is ReLU's of a sum: then ReLU's gradient is a result, too */
function differentiate(
  backend: OneDnnBackend,
  { dy, x, scale, y, mean, variance, second }: BackwardInputs,
  attrs: BatchNormAttrs,
  residual = false,
): TensorInfo[] {
  const { runtime } = backend;
  const plain = view(runtime, x.shape);
  const bits = attrs.activation === 'relu' ? reluBits(backend, y) : null;
  // Bits are in the order that x had then. It has another one if somebody has read it since.
  const layout = bits?.layout ?? backend.layoutOf(x, plain);
  const { primitive, namesShift } = backwardPlan(runtime, x.shape, layout, attrs, {
    residual,
    hasSecond: second !== undefined,
  });
  const dx = backend.allocate(x.shape, 'float32', { current: layout, plain });
  const dScale = backend.allocate(scale.shape);
  const dOffset = backend.allocate(scale.shape);
  const up = residual ? backend.allocate(x.shape, 'float32', { current: layout, plain }) : null;
  backend.withLayout(x, plain, layout, (source) =>
    backend.withLayout(dy, plain, layout, (gradient) => {
      const addresses = [
        source,
        gradient,
        backend.storage(dx).address,
        plainAddress(backend, scale),
        plainAddress(backend, mean),
        plainAddress(backend, variance),
        backend.storage(dScale).address,
        backend.storage(dOffset).address,
      ];
      if (namesShift) addresses.push(plainAddress(backend, scale));
      if (bits) addresses.push(bits.address);
      if (up) addresses.push(backend.storage(up).address);
      if (!second) primitive.run(...addresses);
      else backend.withLayout(second, plain, layout, (rest) => primitive.run(...addresses, rest));
    }),
  );
  return up ? [dx, dScale, dOffset, up] : [dx, dScale, dOffset];
}

function reluBits(backend: OneDnnBackend, y: TensorInfo): { address: number; layout: MemoryDescriptor } {
  const { companion } = backend.storage(y);
  if (companion?.kind !== RELU_BITS || !companion.layout) {
    throw new Error("FusedBatchNormGradV3 with activation 'relu' needs the very y that FusedBatchNormV3 returned.");
  }
  return { address: companion.buffer.address, layout: companion.layout };
}

/** A few elements in a loop: y = (x − mean)·scale / √(variance + ε) + offset, for each channel. */
function normalize(
  x: Float32Array,
  y: Float32Array,
  mean: Float32Array,
  variance: Float32Array,
  scale: Float32Array | undefined,
  offset: Float32Array | undefined,
  epsilon: number,
): void {
  const channels = mean.length;
  for (let c = 0; c < channels; c++) {
    const middle = mean[c] as number;
    const factor = (scale ? (scale[c] as number) : 1) / Math.sqrt((variance[c] as number) + epsilon);
    const shift = offset ? (offset[c] as number) : 0;
    for (let i = c; i < x.length; i += channels) y[i] = ((x[i] as number) - middle) * factor + shift;
  }
}

interface InferenceInputs {
  readonly x: TensorInfo;
  readonly scale?: TensorInfo;
  readonly offset?: TensorInfo;
  readonly mean: TensorInfo;
  readonly variance: TensorInfo;
}

interface InferenceAttrs {
  readonly varianceEpsilon: number;
  readonly activation?: 'linear' | 'relu';
}

/** Inference: x [n, h, w, c] with given statistics, as TensorFlow.js' kernel of that name; with ReLU if fusion.ts asks for it. */
const inference = kernel<InferenceInputs, InferenceAttrs>('FusedBatchNorm', ({ inputs, attrs, backend }) => {
  const { x, scale, offset, mean, variance } = inputs;
  if (!isFloat(x, scale, offset, mean, variance) || x.shape.length < 2) return null;
  const channels = x.shape.at(-1) as number;
  if ([scale, offset, mean, variance].some((t) => t && (t.shape.length !== 1 || t.shape[0] !== channels))) return null;
  const { runtime } = backend;
  if (attrs.activation !== 'relu' && util.sizeFromShape(x.shape) <= SMALL && backend.storage(x).layout === null) {
    const y = backend.allocate(x.shape);
    const read = (tensor: TensorInfo | undefined) => tensor && (viewOf(backend, tensor) as Float32Array);
    const [values, output] = [read(x), read(y)] as [Float32Array, Float32Array];
    const [m, v] = [read(mean), read(variance)] as [Float32Array, Float32Array];
    const [s, o] = [read(scale), read(offset)];
    runtime.host(() => normalize(values, output, m, v, s, o, attrs.varianceEpsilon), attrs.varianceEpsilon);
    return y;
  }
  if (attrs.activation !== 'relu') return infer(backend, inputs, attrs);
  const present = Object.entries(inputs).filter(([, tensor]) => tensor) as [keyof InferenceInputs, TensorInfo][];
  const [y] = backend.either(
    isFreeOfNaN(backend, inputs, attrs),
    present.map(([, tensor]) => tensor),
    () => [infer(backend, inputs, attrs)],
    (...tensors) => {
      const parts = Object.fromEntries(present.map(([name], i) => [name, tensors[i]])) as unknown as InferenceInputs;
      return [applyInPlace(backend, infer(backend, parts, { ...attrs, activation: 'linear' }), 'Relu')];
    },
  );
  return y as TensorInfo;
});

/** Whether a batch norm with given statistics gives no NaN: its input has none, and every channel's factor is a number but 0. */
function isFreeOfNaN(backend: OneDnnBackend, inputs: InferenceInputs, { varianceEpsilon }: InferenceAttrs): Verdict {
  const { runtime } = backend;
  const [mean, variance] = floatsOf(backend, inputs.mean, inputs.variance);
  const [scale, offset] = [inputs.scale, inputs.offset].map((tensor) => tensor && floatsOf(backend, tensor)[0]);
  const areFactorsGood = runtime.judge(() =>
    mean.every((middle, c) => {
      const deviation = Math.sqrt((variance[c] as number) + varianceEpsilon);
      const factor = Math.fround((scale?.[c] ?? 1) / deviation);
      const shift = Math.fround((offset?.[c] ?? 0) - middle * factor);
      return (
        factor !== 0 &&
        Number.isFinite(factor) &&
        Number.isFinite(shift) &&
        Number.isFinite(Math.fround(middle * factor))
      );
    }),
  );
  if (!areFactorsGood.holds) return areFactorsGood;
  // A pass over x; the ReLU by itself would make it too.
  const input = finiteness(backend, inputs.x);
  return runtime.judge(() => areFactorsGood.holds && input.holds);
}

function infer(
  backend: OneDnnBackend,
  { x, scale, offset, mean, variance }: InferenceInputs,
  attrs: InferenceAttrs,
): TensorInfo {
  const { runtime } = backend;
  const plain = view(runtime, x.shape);
  const layout = backend.layoutOf(x, plain);
  const parts = (scale ? useScale : 0) | (offset ? useShift : 0);
  const flags = useGlobalStats | parts | (attrs.activation === 'relu' ? fuseNormRelu : 0);
  const compiled = runtime.compiled(`bn inference ${layout.id} ${attrs.varianceEpsilon} ${flags}`, () => {
    const descriptor = runtime.dnnl.batchNormForward(Prop.forwardInference, layout, attrs.varianceEpsilon, flags);
    if (!descriptor) throw new Error(`oneDNN offers no batch normalization of [${layout.dims}].`);
    const channel = runtime.rowMajor(mean.shape);
    const args: PrimitiveArgument[] = [
      [Arg.src, layout],
      [Arg.dst, layout],
      [Arg.mean, channel],
      [Arg.variance, channel],
    ];
    if (scale) args.push([Arg.scale, channel]);
    if (offset) args.push([Arg.shift, channel]);
    return runtime.primitive(descriptor, args, `batch_norm_inference [${layout.dims}] ${attrs.activation ?? ''}`);
  });
  const y = backend.allocate(x.shape, 'float32', { current: layout, plain });
  const addresses = [backend.storage(x).address, backend.storage(y).address];
  for (const tensor of [mean, variance, scale, offset]) if (tensor) addresses.push(plainAddress(backend, tensor));
  compiled.run(...addresses);
  return y;
}

export const batchNormKernels = [forward, backward, inference];

/** What fusion.ts runs, and nobody by name. */
export const batchNormResidualKernels = [residualForward, residualBackward];
