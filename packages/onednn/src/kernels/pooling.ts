/**
 * Max and average pooling and their gradients (MaxPool, MaxPoolGrad, AvgPool, AvgPoolGrad), in the layout of the input.
 * Max pooling's forward pass keeps where each maximum was; those indices live with the output's data.
 */
import { backend_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Alg, Arg, Prop, Query } from '../ffi/constants.js';
import type { MemoryDescriptor, PoolingShape, PrimitiveDescriptor } from '../ffi/dnnl.js';
import { blocked, channelsLast } from '../layout.js';
import type { Primitive } from '../primitive.js';
import type { Runtime } from '../runtime.js';
import { isFloat, kernel } from './kernel.js';

type PoolInfo = backend_util.Conv2DInfo;
type Kind = 'max' | 'avg';

interface PoolAttrs {
  readonly filterSize: [number, number] | number;
  readonly strides: [number, number] | number;
  readonly pad: 'valid' | 'same' | number;
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

const FORWARD = { max: Alg.poolingMax, avg: Alg.poolingAvgExcludePadding } as const;
/**
 * TensorFlow.js' average pooling leaves padding out of the mean, but its gradient, on every backend and in its test suite,
 * divides by the whole window. Without padding the two agree; with padding we are as wrong as the others, so that a model
 * trains here as it does in a browser.
 */
const BACKWARD = { max: Alg.poolingMax, avg: Alg.poolingAvgIncludePadding } as const;

function poolInfo(shape: readonly number[], attrs: PoolAttrs): PoolInfo | null {
  if (shape.length !== 4) return null;
  const info = backend_util.computePool2DInfo(
    shape as [number, number, number, number],
    attrs.filterSize,
    attrs.strides,
    1,
    attrs.pad,
    attrs.dimRoundingMode,
  );
  const { padInfo } = info;
  // oneDNN wants at least one element of the input under every window; `cpu` gives such windows −∞ or NaN.
  const emptyWindow =
    Math.max(padInfo.top, padEnd(info, 'height')) >= info.filterHeight ||
    Math.max(padInfo.left, padEnd(info, 'width')) >= info.filterWidth;
  return emptyWindow || info.outShape.some((size) => size <= 0) ? null : info;
}

function padEnd(info: PoolInfo, axis: 'height' | 'width'): number {
  return axis === 'height'
    ? (info.outHeight - 1) * info.strideHeight + info.filterHeight - info.inHeight - info.padInfo.top
    : (info.outWidth - 1) * info.strideWidth + info.filterWidth - info.inWidth - info.padInfo.left;
}

function poolingShape(info: PoolInfo): PoolingShape {
  return {
    kernel: [info.filterHeight, info.filterWidth],
    strides: [info.strideHeight, info.strideWidth],
    dilates: [0, 0],
    padBegin: [info.padInfo.top, info.padInfo.left],
    padEnd: [padEnd(info, 'height'), padEnd(info, 'width')],
  };
}

interface PoolPlan {
  readonly primitive: Primitive;
  readonly source: MemoryDescriptor;
  readonly destination: MemoryDescriptor;
  readonly workspace: MemoryDescriptor | null;
  destroy(): void;
}

function keyOf(kind: Kind, direction: string, info: PoolInfo, source: MemoryDescriptor): string {
  const { filterHeight, filterWidth, strideHeight, strideWidth, padInfo, outShape } = info;
  const geometry = [filterHeight, filterWidth, strideHeight, strideWidth, padInfo.top, padInfo.left, outShape];
  return `pool ${kind} ${direction} ${source.id} ${geometry}`;
}

/** The output's layout follows the input's. */
function outputLayout(runtime: Runtime, info: PoolInfo, source: MemoryDescriptor): MemoryDescriptor {
  const isPlain = source === channelsLast(runtime, info.inShape, source.dataType);
  return (isPlain ? channelsLast : blocked)(runtime, info.outShape, source.dataType);
}

function forwardDescriptor(
  runtime: Runtime,
  algorithms: typeof FORWARD | typeof BACKWARD,
  kind: Kind,
  info: PoolInfo,
  source: MemoryDescriptor,
): PrimitiveDescriptor {
  const destination = outputLayout(runtime, info, source);
  const descriptor = runtime.dnnl.poolingForward(
    Prop.forwardTraining,
    algorithms[kind],
    source,
    destination,
    poolingShape(info),
  );
  if (!descriptor) throw new Error(`oneDNN offers no ${kind} pooling of [${source.dims}].`);
  return descriptor;
}

function forwardPlan(runtime: Runtime, kind: Kind, info: PoolInfo, source: MemoryDescriptor): PoolPlan {
  return runtime.compiled(keyOf(kind, 'forward', info, source), () => {
    const destination = outputLayout(runtime, info, source);
    const descriptor = forwardDescriptor(runtime, FORWARD, kind, info, source);
    const workspace = kind === 'max' ? descriptor.query(Query.workspace) : null;
    const primitive = runtime.primitive(
      descriptor,
      [[Arg.src, source], [Arg.dst, destination], ...(workspace ? [[Arg.workspace, workspace] as const] : [])],
      `pooling_${kind}_forward [${source.dims}]`,
    );
    return { primitive, source, destination, workspace, destroy: () => primitive.destroy() };
  });
}

function backwardPlan(runtime: Runtime, kind: Kind, info: PoolInfo, source: MemoryDescriptor): PoolPlan {
  return runtime.compiled(keyOf(kind, 'backward', info, source), () => {
    const destination = outputLayout(runtime, info, source);
    const hint = forwardDescriptor(runtime, BACKWARD, kind, info, source);
    const workspace = kind === 'max' ? hint.query(Query.workspace) : null;
    const descriptor = runtime.dnnl.poolingBackward(BACKWARD[kind], source, destination, poolingShape(info), hint);
    hint.destroy();
    if (!descriptor) throw new Error(`oneDNN offers no ${kind} pooling gradient of [${source.dims}].`);
    const primitive = runtime.primitive(
      descriptor,
      [[Arg.diffDst, destination], [Arg.diffSrc, source], ...(workspace ? [[Arg.workspace, workspace] as const] : [])],
      `pooling_${kind}_backward [${source.dims}]`,
    );
    return { primitive, source, destination, workspace, destroy: () => primitive.destroy() };
  });
}

function forward(backend: OneDnnBackend, kind: Kind, x: TensorInfo, info: PoolInfo): TensorInfo {
  const { runtime } = backend;
  const source = backend.layoutOf(x, channelsLast(runtime, x.shape));
  const compiled = forwardPlan(runtime, kind, info, source);
  const y = backend.allocate(info.outShape, 'float32', {
    current: compiled.destination,
    plain: channelsLast(runtime, info.outShape),
  });
  const output = backend.storage(y);
  const addresses = [backend.storage(x).address, output.address];
  if (compiled.workspace) {
    const buffer = runtime.pool.acquire(compiled.workspace.byteLength);
    output.companion = { kind: keyOf(kind, 'indices', info, source), buffer };
    addresses.push(buffer.address);
  }
  compiled.primitive.run(...addresses);
  return y;
}

function pool(name: string, kind: Kind) {
  return kernel<{ x: TensorInfo }, PoolAttrs>(name, ({ inputs: { x }, attrs, backend }) => {
    const info = isFloat(x) ? poolInfo(x.shape, attrs) : null;
    return info && forward(backend, kind, x, info);
  });
}

const avgPoolGrad = kernel<{ dy: TensorInfo; input: TensorInfo }, PoolAttrs>(
  'AvgPoolGrad',
  ({ inputs: { dy, input }, attrs, backend }) => {
    const info = isFloat(dy, input) ? poolInfo(input.shape, attrs) : null;
    if (!info || !util.arraysEqual(info.outShape, dy.shape)) return null;
    const { runtime } = backend;
    const plain = channelsLast(runtime, input.shape);
    const source = backend.layoutOf(input, plain);
    const compiled = backwardPlan(runtime, 'avg', info, source);
    const dx = backend.allocate(input.shape, 'float32', { current: source, plain });
    backend.withLayout(dy, channelsLast(runtime, dy.shape), compiled.destination, (gradient) =>
      compiled.primitive.run(gradient, backend.storage(dx).address),
    );
    return dx;
  },
);

const maxPoolGrad = kernel<{ dy: TensorInfo; input: TensorInfo; output: TensorInfo }, PoolAttrs>(
  'MaxPoolGrad',
  ({ inputs: { dy, input, output }, attrs, backend }) => {
    const info = isFloat(dy, input) ? poolInfo(input.shape, attrs) : null;
    if (!info || !util.arraysEqual(info.outShape, dy.shape)) return null;
    const { runtime } = backend;
    const plain = channelsLast(runtime, input.shape);
    const source = backend.layoutOf(input, plain);
    const compiled = backwardPlan(runtime, 'max', info, source);
    // Somebody may pass an output that is not the one our forward pass returned; its indices are computed again.
    const expected = keyOf('max', 'indices', info, source);
    const known = backend.storage(output).companion;
    const again = known?.kind === expected ? null : forward(backend, 'max', input, info);
    const indices = backend.storage(again ?? output).companion?.buffer.address as number;
    const dx = backend.allocate(input.shape, 'float32', { current: source, plain });
    backend.withLayout(dy, channelsLast(runtime, dy.shape), compiled.destination, (gradient) =>
      compiled.primitive.run(gradient, backend.storage(dx).address, indices),
    );
    if (again) backend.disposeIntermediateTensorInfo(again);
    return dx;
  },
);

export const poolingKernels = [pool('MaxPool', 'max'), pool('AvgPool', 'avg'), maxPoolGrad, avgPoolGrad];
