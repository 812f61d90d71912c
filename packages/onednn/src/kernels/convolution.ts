/**
 * Two-dimensional convolution and its two gradients (Conv2D, Conv2DBackpropInput, Conv2DBackpropFilter, FusedConv2D).
 *
 * Which algorithm and layout runs is a fixed rule, never a timing, so that two runs give the same bits. Activations are
 * in channel blocks wherever the channels fill them: batch norm is 2.5 times faster there, and only there f32 has Winograd
 * (Lavin & Gray, arXiv:1509.09308), which pays for 3×3 filters at stride 1 from 32 channels on. Filters come and go in
 * TensorFlow's order; they are small. bf16 on a CPU with AMX is the exception: its kernels, five to fifteen times as fast as
 * blocked bf16, read channels-last memory.
 */
import { backend_util, engine, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Alg, Arg, type DataTypeName, Prop, Query } from '../ffi/constants.js';
import type { ConvolutionShape, MemoryDescriptor, PostOp, PrimitiveDescriptor } from '../ffi/dnnl.js';
import {
  blocked,
  channelsFirst,
  channelsLast,
  exchangedFilterLayout,
  fillsBlocks,
  filterLayout,
  isOneBlock,
} from '../layout.js';
import type { Primitive, PrimitiveArgument } from '../primitive.js';
import type { Runtime } from '../runtime.js';
import { activationOf, keyOf } from './activation.js';
import { isFloat, kernel } from './kernel.js';
import { plainAddress } from './tools.js';
import { applyInPlace } from './unary.js';

type Conv2DInfo = backend_util.Conv2DInfo;
/** Channels from which Winograd is faster than direct convolution, measured with AVX-512: 512 and 32-channel ResNet layers. */
const WINOGRAD_MIN_CHANNELS: Readonly<Record<Direction, number>> = {
  forward: 32,
  backward_data: 32,
  backward_weights: 64,
};
/** Channel counts below this read fastest with channels first. */
const FEW_CHANNELS = 3;

/** A compiled convolution and the layouts that it takes. */
interface ConvolutionPlan {
  readonly primitive: Primitive;
  readonly source: MemoryDescriptor;
  readonly filter: MemoryDescriptor;
  readonly destination: MemoryDescriptor;
  destroy(): void;
}

type Direction = 'forward' | 'backward_data' | 'backward_weights';

function plan(
  runtime: Runtime,
  direction: Direction,
  info: Conv2DInfo,
  type: DataTypeName,
  epilogue: { readonly bias: boolean; readonly postOps: readonly PostOp[]; readonly key: string } = NO_EPILOGUE,
): ConvolutionPlan {
  const { inShape, outShape, filterShape, padInfo } = info;
  const geometry = [info.strideHeight, info.strideWidth, info.dilationHeight, info.dilationWidth];
  const key = `conv ${direction} ${type} ${inShape} ${filterShape} ${outShape} ${geometry} ${padInfo.top},${padInfo.left} ${epilogue.key}`;
  return runtime.compiled(key, () => {
    const shape = convolutionShape(info);
    const candidates = formats(runtime, info, type, direction);
    let best: Attempt | null = null;
    for (const candidate of candidates) {
      const attempt = tryFormat(runtime, direction, info, type, shape, candidate, epilogue);
      if (!attempt) continue;
      best?.descriptor.destroy();
      best = attempt;
      if (!attempt.descriptor.implementation.startsWith('ref')) break;
    }
    if (!best) throw new Error(`oneDNN offers no ${key}.`);
    const { descriptor } = best;
    const source = descriptor.query(direction === 'backward_data' ? Query.diffSrc : Query.src) as MemoryDescriptor;
    const filter = descriptor.query(
      direction === 'backward_weights' ? Query.diffWeights : Query.weights,
    ) as MemoryDescriptor;
    const destination = descriptor.query(direction === 'forward' ? Query.dst : Query.diffDst) as MemoryDescriptor;
    const args: PrimitiveArgument[] = [
      [direction === 'backward_data' ? Arg.diffSrc : Arg.src, source],
      [direction === 'backward_weights' ? Arg.diffWeights : Arg.weights, filter],
      [direction === 'forward' ? Arg.dst : Arg.diffDst, destination],
    ];
    if (epilogue.bias) args.push([Arg.bias, runtime.rowMajor([info.outChannels])]);
    const label = `convolution_${direction} ${type} in [${inShape}] filter [${filterShape}] stride ${info.strideHeight}`;
    const primitive = runtime.primitive(descriptor, args, label);
    return { primitive, source, filter, destination, destroy: () => primitive.destroy() };
  });
}

const NO_EPILOGUE = { bias: false, postOps: [], key: '' };

function convolutionShape(info: Conv2DInfo): ConvolutionShape {
  const { padInfo, inHeight, inWidth, outHeight, outWidth } = info;
  // The end padding that makes oneDNN's size formula give TensorFlow's output size exactly.
  const end = (out: number, stride: number, kernelSpan: number, size: number, begin: number) =>
    (out - 1) * stride + kernelSpan - size - begin;
  return {
    strides: [info.strideHeight, info.strideWidth],
    dilates: [info.dilationHeight - 1, info.dilationWidth - 1],
    padBegin: [padInfo.top, padInfo.left],
    padEnd: [
      end(outHeight, info.strideHeight, info.effectiveFilterHeight, inHeight, padInfo.top),
      end(outWidth, info.strideWidth, info.effectiveFilterWidth, inWidth, padInfo.left),
    ],
  };
}

interface Candidate {
  readonly algorithm: number;
  readonly source: MemoryDescriptor;
  readonly destination: MemoryDescriptor;
}

/** Layouts and algorithms to try, best first. */
function formats(runtime: Runtime, info: Conv2DInfo, type: DataTypeName, direction: Direction): Candidate[] {
  const { inShape, outShape, inChannels, outChannels } = info;
  const direct = Alg.convolutionDirect;
  const plain = {
    algorithm: direct,
    source: channelsLast(runtime, inShape, type),
    destination: channelsLast(runtime, outShape, type),
  };
  if (!fillsBlocks(runtime, outChannels) || (type === 'bf16' && runtime.hasAmx)) return [plain];
  const destination = blocked(runtime, outShape, type);
  if (inChannels <= FEW_CHANNELS && direction !== 'backward_data') {
    return [{ algorithm: direct, source: channelsFirst(runtime, inShape, type), destination }, plain];
  }
  if (!fillsBlocks(runtime, inChannels)) return [plain];
  const source = blocked(runtime, inShape, type);
  const candidates: Candidate[] = [{ algorithm: direct, source, destination }, plain];
  // With one block of channels both layouts are the same memory, and the weight gradient's channels-last kernel is faster.
  if (
    direction === 'backward_weights' &&
    type === 'f32' &&
    inChannels === outChannels &&
    isOneBlock(runtime, inChannels)
  ) {
    return [plain];
  }
  if (type === 'f32' && isWinogradShape(runtime, info, direction))
    candidates.unshift({ algorithm: Alg.convolutionWinograd, source, destination });
  return candidates;
}

function isWinogradShape(runtime: Runtime, info: Conv2DInfo, direction: Direction): boolean {
  return (
    runtime.winograd &&
    info.filterHeight === 3 &&
    info.filterWidth === 3 &&
    info.strideHeight === 1 &&
    info.strideWidth === 1 &&
    info.dilationHeight === 1 &&
    info.dilationWidth === 1 &&
    Math.min(info.inChannels, info.outChannels) >= WINOGRAD_MIN_CHANNELS[direction]
  );
}

interface Attempt {
  readonly descriptor: PrimitiveDescriptor;
}

function tryFormat(
  runtime: Runtime,
  direction: Direction,
  info: Conv2DInfo,
  type: DataTypeName,
  shape: ConvolutionShape,
  { algorithm, source, destination }: Candidate,
  epilogue: typeof NO_EPILOGUE | { readonly bias: boolean; readonly postOps: readonly PostOp[] },
): Attempt | null {
  const { dnnl } = runtime;
  const [height, width, input, output] = info.filterShape as [number, number, number, number];
  const any = (t: DataTypeName) => dnnl.descriptor([output, input, height, width], t, 'any');
  const bias = epilogue.bias ? runtime.rowMajor([output]) : null;
  const forward = dnnl.convolutionForward(
    direction === 'forward' && epilogue.postOps.length > 0 ? Prop.forwardInference : Prop.forwardTraining,
    algorithm,
    source,
    any(type),
    bias,
    destination,
    shape,
    direction === 'forward' ? epilogue.postOps : [],
  );
  if (!forward || direction === 'forward') return forward && { descriptor: forward };
  const descriptor =
    direction === 'backward_data'
      ? dnnl.convolutionBackwardData(algorithm, source, any(type), destination, shape, forward)
      : // Weight gradients are f32 even of bf16 activations: they are summed over replicas and steps.
        dnnl.convolutionBackwardWeights(algorithm, source, any('f32'), null, destination, shape, forward);
  forward.destroy();
  return descriptor && { descriptor };
}

/** Layout in which an activation of this plan lies, and what it would be in row-major order. */
function nativeLayout(runtime: Runtime, shape: readonly number[], current: MemoryDescriptor) {
  return { current, plain: channelsLast(runtime, shape) };
}

interface ConvolutionAttrs {
  readonly strides: [number, number] | number;
  readonly pad: 'valid' | 'same' | number | backend_util.ExplicitPadding;
  readonly dataFormat: 'NHWC' | 'NCHW';
  readonly dilations: [number, number] | number;
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

/** The geometry; null where oneDNN cannot follow TensorFlow.js. */
export function conv2DInfo(
  inShape: readonly number[],
  filterShape: readonly number[],
  attrs: Omit<ConvolutionAttrs, 'dilations'> & { readonly dilations?: [number, number] | number },
): Conv2DInfo | null {
  if (attrs.dataFormat === 'NCHW') return null;
  const info = backend_util.computeConv2DInfo(
    inShape as [number, number, number, number],
    filterShape as [number, number, number, number],
    attrs.strides,
    attrs.dilations ?? 1,
    attrs.pad,
    attrs.dimRoundingMode,
  );
  if (info.outShape.some((size) => size <= 0)) return null;
  // With a number as padding TensorFlow.js sizes the output as if filters were square, so whole rows may be left over;
  // oneDNN takes only less than a stride.
  const [bottom, right] = convolutionShape(info).padEnd as [number, number];
  return bottom > -info.strideHeight && right > -info.strideWidth ? info : null;
}

function forward(
  backend: OneDnnBackend,
  x: TensorInfo,
  filter: TensorInfo,
  info: Conv2DInfo,
  epilogue: typeof NO_EPILOGUE | { bias: boolean; postOps: readonly PostOp[]; key: string },
  bias?: TensorInfo,
): TensorInfo {
  const { runtime } = backend;
  const type = activationType(backend, info);
  if (epilogue === NO_EPILOGUE && type === 'f32' && isFasterBackward(runtime, info)) {
    return forwardAsDataGradient(backend, x, filter, info);
  }
  const compiled = plan(runtime, 'forward', info, type, epilogue);
  const y = backend.allocate(info.outShape, 'float32', nativeLayout(runtime, info.outShape, compiled.destination));
  const destination = backend.storage(y).address;
  withInput(backend, x, info, compiled.source, (source) =>
    withFilter(backend, filter, info, type, compiled.filter, (weights) => {
      if (bias) compiled.primitive.run(source, weights, destination, plainAddress(backend, bias));
      else compiled.primitive.run(source, weights, destination);
    }),
  );
  return y;
}

/** Runs `use` with the input as a pass reads it. A network's images are converted for the forward pass and for the weight gradient alike. */
function withInput(
  backend: OneDnnBackend,
  x: TensorInfo,
  info: Conv2DInfo,
  wanted: MemoryDescriptor,
  use: (address: number) => void,
): void {
  const plain = channelsLast(backend.runtime, info.inShape);
  if (info.inChannels <= FEW_CHANNELS) backend.withCopy(x, plain, wanted, use);
  else backend.withLayout(x, plain, wanted, use);
}

/**
 * Runs `use` with the filter in the layout of the forward pass. In bf16 while a step is recorded, by way of the data gradient's layout, which
 * is kept for it. Of a ResNet-50's filters, each alone and not in the cache, that takes 8 and 3.5 ms instead of 14 and 8 (Zen 5); f32 would
 * gain nothing.
 */
function withFilter(
  backend: OneDnnBackend,
  filter: TensorInfo,
  info: Conv2DInfo,
  type: DataTypeName,
  wanted: MemoryDescriptor,
  use: (address: number) => void,
): void {
  const { runtime } = backend;
  const plain = filterLayout(runtime, info.filterShape);
  const isTrained = runtime.recorder !== null && engine().state.gradientDepth > 0;
  if (type !== 'bf16' || !isTrained || !fillsBlocks(runtime, info.inChannels)) {
    backend.withLayout(filter, plain, wanted, use);
    return;
  }
  const { filter: other } = plan(runtime, 'backward_data', info, type);
  backend.withCopy(filter, plain, other, (from) => {
    const buffer = runtime.pool.acquire(wanted.byteLength);
    try {
      runtime.reorder(from, other, buffer.address, wanted);
      use(buffer.address);
    } finally {
      runtime.pool.release(buffer);
    }
  });
}

/**
 * Whether the data gradient's kernel is the faster way to compute this convolution: with one block of channels on both sides,
 * which is a third of a CIFAR-10 ResNet, it reaches 460 GF/s where the forward kernel reaches 370 (`lockstep bench resnet`
 * shows the sum).
 */
function isFasterBackward(runtime: Runtime, info: Conv2DInfo): boolean {
  const { inChannels, outChannels, filterHeight, filterWidth, padInfo } = info;
  return (
    inChannels === outChannels &&
    isOneBlock(runtime, inChannels) &&
    filterHeight === 3 &&
    filterWidth === 3 &&
    info.strideHeight === 1 &&
    info.strideWidth === 1 &&
    info.dilationHeight === 1 &&
    info.dilationWidth === 1 &&
    padInfo.top === 1 &&
    padInfo.left === 1 &&
    util.arraysEqual(info.inShape, info.outShape)
  );
}

/** y = x ∗ W as the data gradient of the convolution whose filter is W turned around, inputs and outputs exchanged. */
function forwardAsDataGradient(
  backend: OneDnnBackend,
  x: TensorInfo,
  filter: TensorInfo,
  info: Conv2DInfo,
): TensorInfo {
  const { runtime } = backend;
  const compiled = plan(runtime, 'backward_data', info, 'f32');
  const y = backend.allocate(info.outShape, 'float32', nativeLayout(runtime, info.outShape, compiled.source));
  const turned = backend.allocate(info.filterShape);
  try {
    const [from, to] = [filter, turned].map((tensor) => backend.storage(tensor).view()) as [Float32Array, Float32Array];
    runtime.host(() => turnAround(from, to, info.inChannels * info.outChannels));
    const { address } = backend.storage(y);
    backend.withLayout(x, channelsLast(runtime, info.inShape), compiled.destination, (source) =>
      backend.withLayout(turned, exchangedFilterLayout(runtime, info.filterShape), compiled.filter, (weights) =>
        compiled.primitive.run(address, weights, source),
      ),
    );
  } finally {
    backend.disposeData(turned.dataId);
  }
  return y;
}

/** Copies a filter [height, width, in, out] with height and width reversed; `matrix` is in × out. */
function turnAround(from: Float32Array, to: Float32Array, matrix: number): void {
  for (let begin = 0; begin < from.length; begin += matrix) {
    to.set(from.subarray(begin, begin + matrix), from.length - begin - matrix);
  }
}

/** bf16 only where channels fill blocks: the last, odd-sized layers of a network keep f32. */
function activationType(backend: OneDnnBackend, info: Conv2DInfo): DataTypeName {
  if (backend.precision !== 'bf16') return 'f32';
  return fillsBlocks(backend.runtime, info.outChannels) ? 'bf16' : 'f32';
}

const conv2D = kernel<{ x: TensorInfo; filter: TensorInfo }, ConvolutionAttrs>(
  'Conv2D',
  ({ inputs, attrs, backend }) => {
    const { x, filter } = inputs;
    if (!isFloat(x, filter)) return null;
    const info = conv2DInfo(x.shape, filter.shape, attrs);
    if (!info || isMiscomputed(backend, x.shape, info.outShape, [info.strideHeight, info.strideWidth])) return null;
    return forward(backend, x, filter, info, NO_EPILOGUE);
  },
);

const conv2DBackpropInput = kernel<
  { dy: TensorInfo; filter: TensorInfo },
  ConvolutionAttrs & { inputShape: [number, number, number, number] }
>('Conv2DBackpropInput', ({ inputs, attrs, backend }) => {
  const { dy, filter } = inputs;
  const { runtime } = backend;
  if (!isFloat(dy, filter)) return null;
  const info = conv2DInfo(attrs.inputShape, filter.shape, attrs);
  if (!info || !sameShape(info.outShape, dy.shape) || info.inShape.includes(0)) return null;
  const type = activationType(backend, info);
  const [gradient, weights] = [backend.storage(dy), backend.storage(filter)];
  // Deferred, because TensorFlow.js asks for the gradient of a network's input and throws it away.
  return backend.deferred(info.inShape, [dy, filter], (dx) => {
    const compiled = plan(runtime, 'backward_data', info, type);
    const layout = nativeLayout(runtime, info.inShape, compiled.source);
    dx.place(util.sizeFromShape(info.inShape), layout.current === layout.plain ? null : layout);
    backend.withLayout(gradient, channelsLast(runtime, info.outShape), compiled.destination, (destination) => {
      const plain = filterLayout(runtime, info.filterShape);
      const run = (address: number) => compiled.primitive.run(dx.address, address, destination);
      // f32's filters are not kept, so nothing would read this one again.
      if (type === 'bf16') backend.withCopy(weights, plain, compiled.filter, run);
      else backend.withLayout(weights, plain, compiled.filter, run);
    });
  });
});

const conv2DBackpropFilter = kernel<
  { x: TensorInfo; dy: TensorInfo },
  ConvolutionAttrs & { filterShape: [number, number, number, number] }
>('Conv2DBackpropFilter', ({ inputs, attrs, backend }) => {
  const { x, dy } = inputs;
  const { runtime } = backend;
  if (!isFloat(x, dy)) return null;
  const info = conv2DInfo(x.shape, attrs.filterShape, attrs);
  if (!info || !sameShape(info.outShape, dy.shape) || info.filterShape.includes(0)) return null;
  const compiled = plan(runtime, 'backward_weights', info, activationType(backend, info));
  // The gradient stays as oneDNN left it until it is copied to where gradients are collected: one pass less.
  const gradient = backend.allocate(info.filterShape, 'float32', {
    current: compiled.filter,
    plain: filterLayout(runtime, info.filterShape),
  });
  const weights = backend.storage(gradient).address;
  withInput(backend, x, info, compiled.source, (source) =>
    backend.withLayout(dy, channelsLast(runtime, info.outShape), compiled.destination, (destination) =>
      compiled.primitive.run(source, weights, destination),
    ),
  );
  return gradient;
});

interface FusedAttrs extends ConvolutionAttrs {
  readonly activation?: string;
  readonly leakyreluAlpha?: number;
}

const fusedConv2D = kernel<
  { x: TensorInfo; filter: TensorInfo; bias?: TensorInfo; preluActivationWeights?: TensorInfo },
  FusedAttrs
>('FusedConv2D', ({ inputs, attrs, backend }) => {
  const { x, filter, bias, preluActivationWeights } = inputs;
  if (!isFloat(x, filter, bias) || preluActivationWeights) return null;
  const info = conv2DInfo(x.shape, filter.shape, attrs);
  if (!info || (bias && (bias.shape.length !== 1 || bias.shape[0] !== info.outChannels))) return null;
  if (isMiscomputed(backend, x.shape, info.outShape, [info.strideHeight, info.strideWidth])) return null;
  // Winograd's convolution takes none but oneDNN's own ReLU.
  const isWinograd = activationType(backend, info) === 'f32' && isWinogradShape(backend.runtime, info, 'forward');
  const size = isWinograd ? Number.POSITIVE_INFINITY : util.sizeFromShape(info.outShape);
  const activation = activationOf(backend.runtime, size, attrs.activation, attrs.leakyreluAlpha);
  if (!activation) return null;
  const { postOps, apply } = activation;
  const key = `${bias ? 'bias' : ''} ${keyOf(postOps)}`;
  const isPlain = !bias && postOps.length === 0;
  const epilogue = isPlain ? NO_EPILOGUE : { bias: Boolean(bias), postOps, key };
  const y = forward(backend, x, filter, info, epilogue, bias);
  return apply ? applyInPlace(backend, y, apply) : y;
});

/**
 * oneDNN 3.7's brgemm convolution takes the wrong stride where one channel comes in, one column goes out, and the strides
 * differ; rows after the first are then zero. Such images are small.
 */
export function isMiscomputed(
  { runtime }: OneDnnBackend,
  inShape: readonly number[],
  outShape: readonly number[],
  strides: readonly number[],
): boolean {
  if (runtime.dnnl.version.major < 3 || inShape.at(-1) !== 1 || outShape.at(-2) !== 1) return false;
  return strides.some((stride) => stride !== strides[0]);
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

export const convolutionKernels = [conv2D, conv2DBackpropInput, conv2DBackpropFilter, fusedConv2D];
