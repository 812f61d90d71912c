/**
 * Max and average pooling of images and volumes, and their gradients (MaxPool, MaxPoolGrad, AvgPool, AvgPoolGrad and the same
 * with 3D in their names), in the layout of the input.
 * Max pooling's forward pass keeps where each maximum was; those indices live with the output's data. A few elements take a
 * loop (pooling-loops.ts), which keeps none.
 */
import { backend_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Alg, Arg, Prop, Query } from '../ffi/constants.js';
import type { MemoryDescriptor, PoolingShape, PrimitiveDescriptor } from '../ffi/dnnl.js';
import { blocked, channelsLast } from '../layout.js';
import type { Verdict } from '../memory/step-listener.js';
import type { Primitive } from '../primitive.js';
import type { Runtime } from '../runtime.js';
import { sumWhere } from './elementwise.js';
import { isFloat, kernel } from './kernel.js';
import * as loops from './pooling-loops.js';
import { floatsOf, SMALL } from './tools.js';

type Kind = 'max' | 'avg';
type Size<N extends number[]> = N | number;

/** A pooling of any rank: shapes in TensorFlow's order, the window as oneDNN takes it. */
interface PoolGeometry {
  readonly inShape: readonly number[];
  readonly outShape: readonly number[];
  readonly window: PoolingShape;
  /** The same for a loop; null where a primitive is faster. */
  readonly loop: loops.Windows | null;
}

interface PoolAttrs {
  readonly filterSize: Size<[number, number]> | [number, number, number];
  readonly strides: Size<[number, number]> | [number, number, number];
  readonly pad: 'valid' | 'same' | number | backend_util.ExplicitPadding;
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
  readonly dataFormat?: string;
}

const FORWARD = { max: Alg.poolingMax, avg: Alg.poolingAvgExcludePadding } as const;
/**
 * TensorFlow.js' average pooling leaves padding out of the mean, but its gradient, on every backend and in its test suite,
 * divides by the whole window. Without padding the two agree; with padding we are as wrong as the others, so that a model
 * trains here as it does in a browser.
 */
const BACKWARD = { max: Alg.poolingMax, avg: Alg.poolingAvgIncludePadding } as const;

/** Geometries that were asked for last: working one out takes as long as pooling a small image. */
const geometries = new Map<string, PoolGeometry | null>();
const CAPACITY = 256;

function poolGeometry(shape: readonly number[], attrs: PoolAttrs): PoolGeometry | null {
  const { filterSize, strides, pad, dimRoundingMode, dataFormat } = attrs;
  const key = `${shape} ${filterSize} ${strides} ${pad} ${dimRoundingMode} ${dataFormat}`;
  let geometry = geometries.get(key);
  if (geometry === undefined) {
    if (geometries.size >= CAPACITY) geometries.clear();
    geometry = makeGeometry(shape, attrs);
    geometries.set(key, geometry);
  }
  return geometry;
}

/** null for what stays with TensorFlow.js: channels first, empty outputs, windows without an element. */
function makeGeometry(shape: readonly number[], attrs: PoolAttrs): PoolGeometry | null {
  if (attrs.dataFormat === 'NCHW' || attrs.dataFormat === 'NCDHW') return null;
  if (shape.length === 4) {
    const { outShape, padInfo, ...info } = backend_util.computePool2DInfo(
      shape as [number, number, number, number],
      attrs.filterSize as [number, number],
      attrs.strides as [number, number],
      1,
      attrs.pad,
      attrs.dimRoundingMode,
    );
    const kernelSize = [info.filterHeight, info.filterWidth];
    return windowOf(shape, outShape, kernelSize, [info.strideHeight, info.strideWidth], [padInfo.top, padInfo.left]);
  }
  if (shape.length === 5) {
    const { outShape, padInfo, ...info } = backend_util.computePool3DInfo(
      shape as [number, number, number, number, number],
      attrs.filterSize as [number, number, number],
      attrs.strides as [number, number, number],
      1,
      attrs.pad as 'valid' | 'same' | number,
      attrs.dimRoundingMode,
    );
    const kernelSize = [info.filterDepth, info.filterHeight, info.filterWidth];
    const strides = [info.strideDepth, info.strideHeight, info.strideWidth];
    return windowOf(shape, outShape, kernelSize, strides, [padInfo.front, padInfo.top, padInfo.left]);
  }
  return null;
}

function windowOf(
  inShape: readonly number[],
  outShape: readonly number[],
  kernelSize: readonly number[],
  strides: readonly number[],
  padBegin: readonly number[],
): PoolGeometry | null {
  if (outShape.some((size) => size <= 0)) return null;
  const padEnd = kernelSize.map(
    (size, axis) =>
      ((outShape[axis + 1] as number) - 1) * (strides[axis] as number) +
      size -
      (inShape[axis + 1] as number) -
      (padBegin[axis] as number),
  );
  // oneDNN wants at least one element of the input under every window; `cpu` gives such windows −∞ or NaN.
  const hasEmptyWindow = kernelSize.some(
    (size, axis) => Math.max(padBegin[axis] as number, padEnd[axis] as number) >= size,
  );
  // In three dimensions TensorFlow.js' 'same' crops where the stride is longer than the window; oneDNN does not.
  if (hasEmptyWindow || padBegin.some((begin) => begin < 0)) return null;
  const window = { kernel: kernelSize, strides, dilates: kernelSize.map(() => 0), padBegin, padEnd };
  const isSmall = util.sizeFromShape([...outShape, ...kernelSize]) <= SMALL;
  const geometry = { inShape, outShape, window, loop: null };
  return isSmall ? { ...geometry, loop: windowsOf(geometry) } : geometry;
}

interface PoolPlan {
  readonly primitive: Primitive;
  readonly source: MemoryDescriptor;
  readonly destination: MemoryDescriptor;
  readonly workspace: MemoryDescriptor | null;
  destroy(): void;
}

function keyOf(kind: Kind, direction: string, { outShape, window }: PoolGeometry, source: MemoryDescriptor): string {
  return `pool ${kind} ${direction} ${source.id} ${window.kernel} ${window.strides} ${window.padBegin} ${outShape}`;
}

/** The output's layout follows the input's. */
function outputLayout(runtime: Runtime, info: PoolGeometry, source: MemoryDescriptor): MemoryDescriptor {
  const isPlain = source === channelsLast(runtime, info.inShape, source.dataType);
  return (isPlain ? channelsLast : blocked)(runtime, info.outShape, source.dataType);
}

function forwardDescriptor(
  runtime: Runtime,
  algorithms: typeof FORWARD | typeof BACKWARD,
  kind: Kind,
  info: PoolGeometry,
  source: MemoryDescriptor,
): PrimitiveDescriptor {
  const destination = outputLayout(runtime, info, source);
  const descriptor = runtime.dnnl.poolingForward(
    Prop.forwardTraining,
    algorithms[kind],
    source,
    destination,
    info.window,
  );
  if (!descriptor) throw new Error(`oneDNN offers no ${kind} pooling of [${source.dims}].`);
  return descriptor;
}

function forwardPlan(runtime: Runtime, kind: Kind, info: PoolGeometry, source: MemoryDescriptor): PoolPlan {
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

function backwardPlan(runtime: Runtime, kind: Kind, info: PoolGeometry, source: MemoryDescriptor): PoolPlan {
  return runtime.compiled(keyOf(kind, 'backward', info, source), () => {
    const destination = outputLayout(runtime, info, source);
    const hint = forwardDescriptor(runtime, BACKWARD, kind, info, source);
    const workspace = kind === 'max' ? hint.query(Query.workspace) : null;
    const descriptor = runtime.dnnl.poolingBackward(BACKWARD[kind], source, destination, info.window, hint);
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

function forward(backend: OneDnnBackend, kind: Kind, x: TensorInfo, info: PoolGeometry): TensorInfo {
  const { runtime } = backend;
  const source = backend.layoutOf(x, channelsLast(runtime, x.shape));
  const compiled = forwardPlan(runtime, kind, info, source);
  const y = backend.allocate([...info.outShape], 'float32', {
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

/** oneDNN's greatest number of a window in which there is none greater than −∞. */
const LOWEST = -3e38;

/**
 * Max pooling of any numbers. oneDNN begins with the lowest f32 and so gives that, where TensorFlow.js gives −∞, for a window of
 * nothing but −∞ and NaN. A sum of the results that is far from there says that there was none.
 */
function maxForward(backend: OneDnnBackend, x: TensorInfo, info: PoolGeometry): TensorInfo {
  const { runtime } = backend;
  const y = forward(backend, 'max', x, info);
  const output = backend.storage(y);
  const { companion } = output;
  const verdict =
    backend.storage(x).finite ??
    sumWhere(
      runtime,
      output.address,
      (output.layout ?? { current: runtime.rowMajor([util.sizeFromShape(y.shape)]) }).current,
      (sum) => sum > LOWEST / 3 && sum < Number.POSITIVE_INFINITY,
    );
  const [result] = backend.keepIf(verdict, [x], [y], (input) => [inLoop(backend, 'max', input, info)]);
  if (result !== y) return result;
  if (companion) output.companion = { ...companion, verdict };
  output.finite = backend.storage(x).finite;
  return y;
}

function windowsOf({ inShape, outShape, window }: PoolGeometry): loops.Windows {
  return loops.windowsOf(inShape, outShape.slice(1, -1), window.kernel, window.strides, window.padBegin);
}

function inLoop(backend: OneDnnBackend, kind: Kind, x: TensorInfo, info: PoolGeometry): TensorInfo {
  const geometry = info.loop ?? windowsOf(info);
  const y = backend.allocate([...info.outShape]);
  const [values, output] = floatsOf(backend, x, y);
  backend.runtime.host(() => (kind === 'max' ? loops.maxPool : loops.avgPool)(values, output, geometry));
  return y;
}

function pool(name: string, kind: Kind) {
  return kernel<{ x: TensorInfo }, PoolAttrs>(name, ({ inputs: { x }, attrs, backend }) => {
    const info = isFloat(x) ? poolGeometry(x.shape, attrs) : null;
    if (!info) return null;
    if (info.loop && backend.storage(x).layout === null) return inLoop(backend, kind, x, info);
    return kind === 'max' ? maxForward(backend, x, info) : forward(backend, kind, x, info);
  });
}

function avgPoolGrad(name: string) {
  return kernel<{ dy: TensorInfo; input: TensorInfo }, PoolAttrs>(name, ({ inputs: { dy, input }, attrs, backend }) => {
    const info = isFloat(dy, input) ? poolGeometry(input.shape, attrs) : null;
    if (!info || !util.arraysEqual([...info.outShape], dy.shape)) return null;
    const { runtime } = backend;
    const plain = channelsLast(runtime, input.shape);
    const source = backend.layoutOf(input, plain);
    const compiled = backwardPlan(runtime, 'avg', info, source);
    const dx = backend.allocate(input.shape, 'float32', { current: source, plain });
    backend.withLayout(dy, channelsLast(runtime, dy.shape), compiled.destination, (gradient) =>
      compiled.primitive.run(gradient, backend.storage(dx).address),
    );
    return dx;
  });
}

/** No indices of oneDNN's. */
const NONE: Verdict = { holds: false };

function maxGradInLoop(backend: OneDnnBackend, dy: TensorInfo, input: TensorInfo, info: PoolGeometry): TensorInfo {
  const geometry = info.loop ?? windowsOf(info);
  const dx = backend.allocate(input.shape);
  const [gradient, values, result] = floatsOf(backend, dy, input, dx);
  backend.runtime.host(() => loops.maxPoolGrad(gradient, values, result, geometry));
  return dx;
}

function maxPoolGrad(name: string) {
  return kernel<{ dy: TensorInfo; input: TensorInfo; output: TensorInfo }, PoolAttrs>(
    name,
    ({ inputs: { dy, input, output }, attrs, backend }) => {
      const info = isFloat(dy, input) ? poolGeometry(input.shape, attrs) : null;
      if (!info || !util.arraysEqual([...info.outShape], dy.shape)) return null;
      const { runtime } = backend;
      const plain = channelsLast(runtime, input.shape);
      const source = backend.layoutOf(input, plain);
      // Somebody may pass an output that is not the one our forward pass returned; its indices are computed again.
      const expected = keyOf('max', 'indices', info, source);
      const known = backend.storage(output).companion;
      if (known === null && source === plain && info.loop) return maxGradInLoop(backend, dy, input, info);
      const again = known?.kind === expected ? null : maxForward(backend, input, info);
      const { companion } = backend.storage(again ?? output);
      // Windows without a greatest number are nobody's gradient; oneDNN's index of them is that of the first element.
      const [dx] = backend.either(
        companion?.verdict ?? NONE,
        [dy, input],
        () => {
          const compiled = backwardPlan(runtime, 'max', info, source);
          const result = backend.allocate(input.shape, 'float32', { current: source, plain });
          const indices = companion?.buffer.address as number;
          backend.withLayout(dy, channelsLast(runtime, dy.shape), compiled.destination, (gradient) =>
            compiled.primitive.run(gradient, backend.storage(result).address, indices),
          );
          return [result];
        },
        (up, x) => [maxGradInLoop(backend, up, x, info)],
      );
      if (again) backend.disposeIntermediateTensorInfo(again);
      return dx;
    },
  );
}

export const poolingKernels = [
  pool('MaxPool', 'max'),
  pool('AvgPool', 'avg'),
  maxPoolGrad('MaxPoolGrad'),
  avgPoolGrad('AvgPoolGrad'),
  pool('MaxPool3D', 'max'),
  pool('AvgPool3D', 'avg'),
  maxPoolGrad('MaxPool3DGrad'),
  avgPoolGrad('AvgPool3DGrad'),
];
