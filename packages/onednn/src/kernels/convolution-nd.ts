/**
 * Depthwise convolution (DepthwiseConv2dNative, FusedDepthwiseConv2D and the two gradients, channel multipliers included) and
 * three-dimensional convolution (Conv3D, Conv3DBackpropInputV2, Conv3DBackpropFilterV2, which are also what transposed
 * convolution is made of). Two-dimensional convolution has rules of its own and its own file.
 *
 * Both are described once, as a geometry in oneDNN's terms; what follows is the same for any rank and any number of groups.
 */
import { backend_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Alg, Arg, type DataTypeName, Prop, Query } from '../ffi/constants.js';
import type { ConvolutionShape, MemoryDescriptor, PostOp } from '../ffi/dnnl.js';
import { blocked, channelsFirst, channelsLast, fillsBlocks } from '../layout.js';
import type { Primitive, PrimitiveArgument } from '../primitive.js';
import { type Runtime, rowMajorStrides } from '../runtime.js';
import { activationOf, keyOf } from './activation.js';
import { isMiscomputed } from './convolution.js';
import { isFloat, kernel } from './kernel.js';
import { plainAddress } from './tools.js';
import { applyInPlace } from './unary.js';

type Direction = 'forward' | 'backward_data' | 'backward_weights';

/** A convolution of any rank: shapes in TensorFlow's order, the filter also as oneDNN sees it. */
interface Geometry {
  readonly inShape: readonly number[];
  readonly outShape: readonly number[];
  readonly filterShape: readonly number[];
  /** [out, in, …space], with groups in front if there are any. */
  readonly filterDims: readonly number[];
  /** Where oneDNN's dimensions of the filter lie in TensorFlow's row-major order. */
  readonly filterStrides: readonly number[];
  readonly shape: ConvolutionShape;
  readonly isDepthwise: boolean;
}

/** A compiled convolution and the layouts that it takes. */
interface Plan {
  readonly primitive: Primitive;
  readonly source: MemoryDescriptor;
  readonly filter: MemoryDescriptor;
  readonly destination: MemoryDescriptor;
  destroy(): void;
}

interface Epilogue {
  readonly bias: boolean;
  readonly postOps: readonly PostOp[];
  readonly key: string;
}

const NO_EPILOGUE: Epilogue = { bias: false, postOps: [], key: '' };
/** Up to this many input channels read fastest with channels first. */
const FEW_CHANNELS = 3;

function plan(
  runtime: Runtime,
  direction: Direction,
  geometry: Geometry,
  type: DataTypeName,
  epilogue: Epilogue = NO_EPILOGUE,
): Plan | null {
  const { inShape, outShape, filterDims, shape } = geometry;
  const what = `in [${inShape}] filter [${filterDims}] stride ${shape.strides}`;
  const key = `conv-nd ${direction} ${type} ${what} ${outShape} ${shape.dilates} ${shape.padBegin} ${epilogue.key}`;
  const compiled = runtime.compiled<Plan | Refused>(key, () => {
    let best: ReturnType<typeof describe> = null;
    for (const [source, destination] of layouts(runtime, geometry, type, direction)) {
      const attempt = describe(runtime, direction, geometry, type, source, destination, epilogue);
      if (!attempt) continue;
      best?.destroy();
      best = attempt;
      if (!attempt.implementation.startsWith('ref')) break;
    }
    if (!best) return REFUSED;
    const source = best.query(direction === 'backward_data' ? Query.diffSrc : Query.src) as MemoryDescriptor;
    const filter = best.query(direction === 'backward_weights' ? Query.diffWeights : Query.weights) as MemoryDescriptor;
    const destination = best.query(direction === 'forward' ? Query.dst : Query.diffDst) as MemoryDescriptor;
    const args: PrimitiveArgument[] = [
      [direction === 'backward_data' ? Arg.diffSrc : Arg.src, source],
      [direction === 'backward_weights' ? Arg.diffWeights : Arg.weights, filter],
      [direction === 'forward' ? Arg.dst : Arg.diffDst, destination],
    ];
    if (epilogue.bias) args.push([Arg.bias, runtime.rowMajor([outShape.at(-1) as number])]);
    const kind = geometry.isDepthwise ? 'depthwise' : 'convolution';
    const primitive = runtime.primitive(best, args, `${kind}_${direction} ${type} ${what}`);
    return { primitive, source, filter, destination, destroy: () => primitive.destroy() };
  });
  return 'primitive' in compiled ? compiled : null;
}

/** Stands in the cache for what oneDNN does not offer, so that it is asked once. */
interface Refused {
  destroy(): void;
}
const REFUSED: Refused = { destroy() {} };

/** Layouts of source and destination to try, best first. */
function layouts(
  runtime: Runtime,
  { inShape, outShape, isDepthwise }: Geometry,
  type: DataTypeName,
  direction: Direction,
): [MemoryDescriptor, MemoryDescriptor][] {
  const [input, output] = [inShape.at(-1) as number, outShape.at(-1) as number];
  const plain: [MemoryDescriptor, MemoryDescriptor] = [
    channelsLast(runtime, inShape, type),
    channelsLast(runtime, outShape, type),
  ];
  if (!fillsBlocks(runtime, output) || (type === 'bf16' && runtime.hasAmx)) return [plain];
  const destination = blocked(runtime, outShape, type);
  if (!isDepthwise && input <= FEW_CHANNELS && direction !== 'backward_data') {
    return [[channelsFirst(runtime, inShape, type), destination], plain];
  }
  // With a channel multiplier no blocked implementation exists.
  if (!fillsBlocks(runtime, input) || (isDepthwise && input !== output)) return [plain];
  return [[blocked(runtime, inShape, type), destination], plain];
}

function describe(
  runtime: Runtime,
  direction: Direction,
  { filterDims, shape, outShape }: Geometry,
  type: DataTypeName,
  source: MemoryDescriptor,
  destination: MemoryDescriptor,
  epilogue: Epilogue,
) {
  const { dnnl } = runtime;
  const direct = Alg.convolutionDirect;
  const any = (t: DataTypeName) => dnnl.descriptor(filterDims, t, 'any');
  const hint = dnnl.convolutionForward(
    direction === 'forward' && epilogue.postOps.length > 0 ? Prop.forwardInference : Prop.forwardTraining,
    direct,
    source,
    any(type),
    epilogue.bias ? runtime.rowMajor([outShape.at(-1) as number]) : null,
    destination,
    shape,
    epilogue.postOps,
  );
  if (!hint || direction === 'forward') return hint;
  const descriptor =
    direction === 'backward_data'
      ? dnnl.convolutionBackwardData(direct, source, any(type), destination, shape, hint)
      : // Weight gradients are f32 even of bf16 activations: they are summed over replicas and steps.
        dnnl.convolutionBackwardWeights(direct, source, any('f32'), null, destination, shape, hint);
  hint.destroy();
  return descriptor;
}

/** bf16 only where channels fill blocks, as in two dimensions. */
function activationType(backend: OneDnnBackend, { outShape }: Geometry): DataTypeName {
  return backend.precision === 'bf16' && fillsBlocks(backend.runtime, outShape.at(-1) as number) ? 'bf16' : 'f32';
}

function filterLayout(runtime: Runtime, { filterDims, filterStrides }: Geometry): MemoryDescriptor {
  return runtime.layout(`filter-nd ${filterDims} ${filterStrides}`, () =>
    runtime.dnnl.descriptor(filterDims, 'f32', { strides: filterStrides }),
  );
}

function forward(
  backend: OneDnnBackend,
  x: TensorInfo,
  filter: TensorInfo,
  geometry: Geometry,
  epilogue: Epilogue = NO_EPILOGUE,
  bias?: TensorInfo,
): TensorInfo | null {
  const { runtime } = backend;
  const compiled = plan(runtime, 'forward', geometry, activationType(backend, geometry), epilogue);
  if (!compiled) return null;
  const plain = channelsLast(runtime, geometry.outShape);
  const y = backend.allocate([...geometry.outShape], 'float32', { current: compiled.destination, plain });
  const destination = backend.storage(y).address;
  backend.withLayout(x, channelsLast(runtime, geometry.inShape), compiled.source, (source) =>
    backend.withLayout(filter, filterLayout(runtime, geometry), compiled.filter, (weights) => {
      if (bias) compiled.primitive.run(source, weights, destination, plainAddress(backend, bias));
      else compiled.primitive.run(source, weights, destination);
    }),
  );
  return y;
}

/** Deferred: a network's first layer is asked for the gradient of its input, and nobody reads it. */
function backwardData(
  backend: OneDnnBackend,
  dy: TensorInfo,
  filter: TensorInfo,
  geometry: Geometry,
): TensorInfo | null {
  const { runtime } = backend;
  const compiled = plan(runtime, 'backward_data', geometry, activationType(backend, geometry));
  if (!compiled) return null;
  const { inShape, outShape } = geometry;
  const [gradient, weights] = [backend.storage(dy), backend.storage(filter)];
  return backend.deferred([...inShape], [dy, filter], (dx) => {
    const plain = channelsLast(runtime, inShape);
    dx.place(util.sizeFromShape([...inShape]), compiled.source === plain ? null : { current: compiled.source, plain });
    // By the time somebody asks, the plan may have left the cache; then it is compiled again.
    const {
      primitive,
      destination,
      filter: layout,
    } = plan(runtime, 'backward_data', geometry, compiled.source.dataType) as Plan;
    backend.withLayout(gradient, channelsLast(runtime, outShape), destination, (gradientAddress) =>
      backend.withLayout(weights, filterLayout(runtime, geometry), layout, (filterAddress) =>
        primitive.run(dx.address, filterAddress, gradientAddress),
      ),
    );
  });
}

function backwardWeights(backend: OneDnnBackend, x: TensorInfo, dy: TensorInfo, geometry: Geometry): TensorInfo | null {
  const { runtime } = backend;
  const compiled = plan(runtime, 'backward_weights', geometry, activationType(backend, geometry));
  if (!compiled) return null;
  const plain = filterLayout(runtime, geometry);
  const gradient = backend.allocate([...geometry.filterShape], 'float32', { current: compiled.filter, plain });
  const weights = backend.storage(gradient).address;
  backend.withLayout(x, channelsLast(runtime, geometry.inShape), compiled.source, (source) =>
    backend.withLayout(dy, channelsLast(runtime, geometry.outShape), compiled.destination, (destination) =>
      compiled.primitive.run(source, weights, destination),
    ),
  );
  return gradient;
}

/** End padding that makes oneDNN's size formula give TensorFlow's output size exactly; null where oneDNN cannot. */
function completeShape(
  inSpace: readonly number[],
  outSpace: readonly number[],
  kernelSpan: readonly number[],
  strides: readonly number[],
  dilations: readonly number[],
  padBegin: readonly number[],
): ConvolutionShape | null {
  const padEnd = outSpace.map(
    (out, axis) =>
      (out - 1) * (strides[axis] as number) +
      (kernelSpan[axis] as number) -
      (inSpace[axis] as number) -
      (padBegin[axis] as number),
  );
  // oneDNN leaves over less than a stride, and does not crop, as TensorFlow.js' 3-D 'same' does for strides beyond the filter.
  if (padBegin.some((begin) => begin < 0)) return null;
  if (padEnd.some((end, axis) => end <= -(strides[axis] as number))) return null;
  return { strides, dilates: dilations.map((d) => d - 1), padBegin, padEnd };
}

interface DepthwiseAttrs {
  readonly strides: [number, number] | number;
  readonly pad: 'valid' | 'same' | number | backend_util.ExplicitPadding;
  readonly dataFormat?: 'NHWC' | 'NCHW';
  readonly dilations?: [number, number] | number | null;
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

/** TensorFlow's depthwise filter [height, width, in, multiplier]: output channel c·multiplier + m reads input channel c. */
function depthwiseGeometry(
  inShape: readonly number[],
  filterShape: readonly number[],
  attrs: DepthwiseAttrs,
): Geometry | null {
  if (attrs.dataFormat === 'NCHW') return null;
  const info = backend_util.computeConv2DInfo(
    inShape as [number, number, number, number],
    filterShape as [number, number, number, number],
    attrs.strides,
    attrs.dilations ?? 1,
    attrs.pad,
    attrs.dimRoundingMode,
    true,
  );
  if (info.outShape.some((size) => size <= 0) || filterShape.includes(0)) return null;
  const shape = completeShape(
    [info.inHeight, info.inWidth],
    [info.outHeight, info.outWidth],
    [info.effectiveFilterHeight, info.effectiveFilterWidth],
    [info.strideHeight, info.strideWidth],
    [info.dilationHeight, info.dilationWidth],
    [info.padInfo.top, info.padInfo.left],
  );
  if (!shape) return null;
  const [height, width, channels, multiplier] = filterShape as [number, number, number, number];
  return {
    inShape,
    outShape: info.outShape,
    filterShape,
    filterDims: [channels, multiplier, 1, height, width],
    filterStrides: [multiplier, 1, multiplier, width * channels * multiplier, channels * multiplier],
    shape,
    isDepthwise: true,
  };
}

function isUndilated(dilations: DepthwiseAttrs['dilations']): boolean {
  return [dilations ?? 1].flat().every((dilation) => dilation === 1);
}

const depthwise = kernel<{ x: TensorInfo; filter: TensorInfo }, DepthwiseAttrs>(
  'DepthwiseConv2dNative',
  ({ inputs: { x, filter }, attrs, backend }) => {
    if (!isFloat(x, filter)) return null;
    // A stride together with a dilation is an error, which TensorFlow.js' kernel words.
    if (!backend_util.eitherStridesOrDilationsAreOne(attrs.strides, attrs.dilations ?? 1)) return null;
    const geometry = depthwiseGeometry(x.shape, filter.shape, attrs);
    return geometry && forward(backend, x, filter, geometry);
  },
);

const fusedDepthwise = kernel<
  { x: TensorInfo; filter: TensorInfo; bias?: TensorInfo; preluActivationWeights?: TensorInfo },
  DepthwiseAttrs & { activation?: string; leakyreluAlpha?: number }
>('FusedDepthwiseConv2D', ({ inputs, attrs, backend }) => {
  const { x, filter, bias, preluActivationWeights } = inputs;
  if (!isFloat(x, filter, bias) || preluActivationWeights) return null;
  if (!backend_util.eitherStridesOrDilationsAreOne(attrs.strides, attrs.dilations ?? 1)) return null;
  const geometry = depthwiseGeometry(x.shape, filter.shape, attrs);
  if (!geometry) return null;
  const size = util.sizeFromShape([...geometry.outShape]);
  const activation = activationOf(backend.runtime, size, attrs.activation, attrs.leakyreluAlpha);
  if (!activation) return null;
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== geometry.outShape.at(-1))) return null;
  const { postOps, apply } = activation;
  const key = `${bias ? 'bias' : ''} ${keyOf(postOps)}`;
  const y = forward(backend, x, filter, geometry, { bias: Boolean(bias), postOps, key }, bias);
  return y && apply ? applyInPlace(backend, y, apply) : y;
});

const depthwiseBackpropInput = kernel<
  { dy: TensorInfo; filter: TensorInfo },
  DepthwiseAttrs & { inputShape: [number, number, number, number] }
>('DepthwiseConv2dNativeBackpropInput', ({ inputs: { dy, filter }, attrs, backend }) => {
  // TensorFlow.js' gradient ignores dilations; what is undefined there stays there.
  if (!isFloat(dy, filter) || !isUndilated(attrs.dilations) || attrs.inputShape.includes(0)) return null;
  const geometry = depthwiseGeometry(attrs.inputShape, filter.shape, attrs);
  if (!geometry || !util.arraysEqual([...geometry.outShape], dy.shape)) return null;
  return backwardData(backend, dy, filter, geometry);
});

const depthwiseBackpropFilter = kernel<
  { x: TensorInfo; dy: TensorInfo },
  DepthwiseAttrs & { filterShape: [number, number, number, number] }
>('DepthwiseConv2dNativeBackpropFilter', ({ inputs: { x, dy }, attrs, backend }) => {
  if (!isFloat(x, dy) || !isUndilated(attrs.dilations)) return null;
  const geometry = depthwiseGeometry(x.shape, attrs.filterShape, attrs);
  if (!geometry || !util.arraysEqual([...geometry.outShape], dy.shape)) return null;
  return backwardWeights(backend, x, dy, geometry);
});

type Triple = [number, number, number];
type Shape5D = [number, number, number, number, number];

interface Conv3DAttrs {
  readonly strides: Triple | number;
  readonly pad: 'valid' | 'same';
  readonly dataFormat?: 'NDHWC' | 'NCDHW';
  readonly dilations?: Triple | number;
}

/** TensorFlow's filter [depth, height, width, in, out]. */
function conv3DGeometry(
  inShape: readonly number[],
  filterShape: readonly number[],
  attrs: Conv3DAttrs,
): Geometry | null {
  if (attrs.dataFormat === 'NCDHW') return null;
  const info = backend_util.computeConv3DInfo(
    inShape as Shape5D,
    filterShape as Shape5D,
    attrs.strides,
    attrs.dilations ?? 1,
    attrs.pad,
  );
  if (info.outShape.some((size) => size <= 0) || filterShape.includes(0)) return null;
  const shape = completeShape(
    [info.inDepth, info.inHeight, info.inWidth],
    [info.outDepth, info.outHeight, info.outWidth],
    [info.effectiveFilterDepth, info.effectiveFilterHeight, info.effectiveFilterWidth],
    [info.strideDepth, info.strideHeight, info.strideWidth],
    [info.dilationDepth, info.dilationHeight, info.dilationWidth],
    [info.padInfo.front, info.padInfo.top, info.padInfo.left],
  );
  if (!shape) return null;
  const order = ([d, h, w, i, o]: readonly number[]) => [o, i, d, h, w] as Shape5D;
  return {
    inShape,
    outShape: info.outShape,
    filterShape,
    filterDims: order(filterShape),
    filterStrides: order(rowMajorStrides(filterShape)),
    shape,
    isDepthwise: false,
  };
}

const conv3D = kernel<{ x: TensorInfo; filter: TensorInfo }, Conv3DAttrs>(
  'Conv3D',
  ({ inputs: { x, filter }, attrs, backend }) => {
    const geometry = isFloat(x, filter) ? conv3DGeometry(x.shape, filter.shape, attrs) : null;
    if (!geometry || isMiscomputed(backend, x.shape, geometry.outShape, geometry.shape.strides)) return null;
    return forward(backend, x, filter, geometry);
  },
);

const conv3DBackpropInput = kernel<
  { dy: TensorInfo; filter: TensorInfo },
  Omit<Conv3DAttrs, 'dilations'> & { inputShape: Shape5D }
>('Conv3DBackpropInputV2', ({ inputs: { dy, filter }, attrs, backend }) => {
  if (!isFloat(dy, filter) || attrs.inputShape.includes(0)) return null;
  const geometry = conv3DGeometry(attrs.inputShape, filter.shape, { ...attrs, dilations: 1 });
  if (!geometry || !util.arraysEqual([...geometry.outShape], dy.shape)) return null;
  return backwardData(backend, dy, filter, geometry);
});

const conv3DBackpropFilter = kernel<
  { x: TensorInfo; dy: TensorInfo },
  Omit<Conv3DAttrs, 'dilations'> & { filterShape: Shape5D }
>('Conv3DBackpropFilterV2', ({ inputs: { x, dy }, attrs, backend }) => {
  const geometry = isFloat(x, dy) ? conv3DGeometry(x.shape, attrs.filterShape, { ...attrs, dilations: 1 }) : null;
  if (!geometry || !util.arraysEqual([...geometry.outShape], dy.shape)) return null;
  return backwardWeights(backend, x, dy, geometry);
});

export const convolutionNdKernels = [
  depthwise,
  fusedDepthwise,
  depthwiseBackpropInput,
  depthwiseBackpropFilter,
  conv3D,
  conv3DBackpropInput,
  conv3DBackpropFilter,
];
