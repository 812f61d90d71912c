/**
 * Fusion by waiting: a batch norm, an addition or a convolution is not computed when it is asked for but when its result is
 * read, and if the reader is a ReLU, both run as one primitive. Likewise backward: ReLU's gradient waits for batch norm's.
 *
 * Whoever waits may find its operands' tensors gone: then an addition and a ReLU's gradient work in place
 * ({@link OneDnnBackend.allocateOver}), which saves a third of their memory traffic.
 *
 * So a user's chain of `tf.layers` (or of plain operations) runs the primitives that a hand-written network would name, and
 * whoever reads a result in between gets it as ever. It is not a graph compiler: it sees one producer and one consumer.
 *
 * oneDNN's ReLU makes 0 of NaN, and a network that diverged must show it. The kernels with a ReLU see to that themselves: each
 * looks at the data, in every replay too ({@link OneDnnBackend.either}). An addition is left apart if nobody knows of its operands.
 */
import { engine, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import type { TensorStorage } from '../memory/storage.js';
import { batchNormResidualKernels } from './batch-norm.js';
import { takesResidual } from './batch-norm-plans.js';
import { conv2DInfo } from './convolution.js';
import type { CompleteKernel, KernelCall } from './kernel.js';

/** Below this many elements waiting costs more than it saves. */
const SMALL = 2048;

/** Data and the shape that its tensor had: the tensor may be gone when the data is needed. */
interface Operand {
  readonly storage: TensorStorage;
  readonly shape: readonly number[];
}

type Attrs = KernelCall['attrs'];
type Inputs = KernelCall['inputs'];

/** Operands by the names of a kernel's inputs. */
type Operands = Readonly<Record<string, Operand>>;

/** Runs a kernel that does not wait. */
type Call = (name: string, backend: OneDnnBackend, operands: Operands, attrs: Attrs) => TensorInfo | TensorInfo[];

class Waiting {
  constructor(
    readonly name: string,
    readonly operands: Operands,
    readonly attrs: Attrs,
  ) {}

  get reads(): TensorStorage[] {
    return Object.values(this.operands).map(({ storage }) => storage);
  }
}

class Addition extends Waiting {}
class Convolution extends Waiting {}
/** A batch norm with given statistics, as in inference. */
class Normalization extends Waiting {}
class ReluGradient extends Waiting {}

/** A training-mode batch norm, whose three results come together. */
class BatchNorm extends Waiting {
  /** y, mean and variance. */
  results: readonly TensorStorage[] = [];
  /** What is still to be made of them. */
  readonly open = new Set<TensorStorage>();
}

/** Which batch norm a ReLU's output was fused with, and whether something was added between: its gradient may be fused with that one's. */
const normOf = new WeakMap<TensorStorage, { readonly norm: BatchNorm; readonly isResidual: boolean }>();

/** Kernels that only what waits here comes to; nobody can run them by name. */
const own = new Map(batchNormResidualKernels.map(({ name, run }) => [name, run as CompleteKernel]));

/** Kernels that wait or look for waiting data, in the place of those that they call. */
export function fuse(complete: ReadonlyMap<string, CompleteKernel>): ReadonlyMap<string, CompleteKernel> {
  const kernels = new Map(complete);
  const wrap = (name: string, wrapper: (inner: CompleteKernel) => CompleteKernel) => {
    const inner = complete.get(name);
    if (inner) kernels.set(name, wrapper(inner));
  };
  const call = (name: string, backend: OneDnnBackend, operands: Operands, attrs: Attrs) =>
    callWith((complete.get(name) ?? own.get(name)) as CompleteKernel, backend, operands, attrs);

  wrap('FusedBatchNormV3', (inner) => (kernelCall) => {
    const { inputs, attrs, backend } = kernelCall;
    const x = inputs.x as TensorInfo;
    if (attrs.activation === 'relu' || !isLargeFloat(x)) return inner(kernelCall);
    const norm = new BatchNorm('FusedBatchNormV3', operandsOf(backend, inputs), attrs);
    const channels = [x.shape.at(-1) as number];
    const outputs = [x.shape, channels, channels].map((shape) => backend.unmade(shape));
    norm.results = outputs.map((output) => backend.unresolved(output));
    for (const result of norm.results) {
      norm.open.add(result);
      result.defer(norm.reads, () => normalize(inner, backend, norm), norm);
    }
    return outputs;
  });

  wrap('Add', (inner) => (kernelCall) => {
    const { inputs, attrs, backend } = kernelCall;
    const [a, b] = [inputs.a as TensorInfo, inputs.b as TensorInfo];
    if (a.dtype !== 'float32' || b.dtype !== 'float32') return inner(kernelCall);
    const left = backend.unresolved(a);
    if (left.recipe instanceof Convolution && !left.recipe.operands.bias && isBias(b, a)) {
      const { operands, attrs: geometry } = left.recipe;
      const bias = operandOf(backend, b);
      return convolve(backend, a.shape, new Convolution('FusedConv2D', { ...operands, bias }, geometry));
    }
    if (!util.arraysEqual(a.shape, b.shape) || !isLargeFloat(a)) return inner(kernelCall);
    // A batch norm may go on waiting, for a ReLU that takes both.
    const norm = [a, b].find((tensor) => waitingNorm(backend, unmade(backend, tensor)));
    const summand = (tensor: TensorInfo) => (tensor === norm ? unmade(backend, tensor) : operandOf(backend, tensor));
    const operands = { a: summand(a), b: summand(b) };
    // Only where layers are: a sum of plain tensors is most often the end of its chain.
    if (!norm && operands.a.storage.layout === null && operands.b.storage.layout === null) return inner(kernelCall);
    return wait(backend, a.shape, new Addition('Add', operands, attrs), inner);
  });

  wrap('FusedBatchNorm', (inner) => (kernelCall) => {
    const { inputs, attrs, backend } = kernelCall;
    if (!isLargeFloat(inputs.x as TensorInfo)) return inner(kernelCall);
    const { x, ...parameters } = Object.fromEntries(Object.entries(inputs).filter(([, tensor]) => tensor)) as Inputs;
    const isPerChannel = Object.values(parameters).every(
      (tensor) => tensor?.dtype === 'float32' && isBias(tensor, x as TensorInfo),
    );
    if (!isPerChannel) return inner(kernelCall);
    const operands = operandsOf(backend, { x, ...parameters } as Inputs);
    return wait(backend, (x as TensorInfo).shape, new Normalization('FusedBatchNorm', operands, attrs), inner);
  });

  for (const name of ['Conv2D', 'FusedConv2D']) {
    wrap(name, (inner) => (kernelCall) => {
      const { inputs, attrs, backend } = kernelCall;
      // Outside of training TensorFlow.js names the activation itself (FusedConv2D).
      const shape = engine().state.gradientDepth > 0 ? outputShape(name, inputs, attrs) : null;
      if (!shape) return inner(kernelCall);
      const { x, filter, bias } = inputs as { x: TensorInfo; filter: TensorInfo; bias?: TensorInfo };
      const operands = operandsOf(backend, bias ? { x, filter, bias } : { x, filter });
      return convolve(backend, shape, new Convolution(name, operands, attrs));
    });
  }

  function convolve(backend: OneDnnBackend, shape: readonly number[], waiting: Convolution): TensorInfo {
    return wait(backend, shape, waiting, complete.get(waiting.name) as CompleteKernel);
  }

  wrap('Relu', (inner) => (kernelCall) => {
    const { inputs, attrs, backend } = kernelCall;
    const { shape } = inputs.x as TensorInfo;
    const { recipe } = backend.unresolved(inputs.x as TensorInfo);
    // The tensor may be a reshaped one, of the same data.
    const fused = (result: TensorInfo | TensorInfo[]) => ({ ...(result as TensorInfo), shape });
    if (recipe instanceof BatchNorm) {
      const result = normalizeRelu(call, backend, recipe);
      return result ? fused(result) : inner(kernelCall);
    }
    if (recipe instanceof Addition) {
      const { a, b } = recipe.operands as { a: Operand; b: Operand };
      const result = addNormRelu(call, backend, a, b) ?? addNormRelu(call, backend, b, a);
      if (result) return fused(result);
      for (const { storage } of [a, b]) storage.resolve();
      if (!a.storage.finite || !b.storage.finite) return inner(kernelCall);
      return fused(call('AddRelu', backend, recipe.operands, attrs));
    }
    if (recipe instanceof Convolution) {
      return fused(call('FusedConv2D', backend, recipe.operands, { ...recipe.attrs, activation: 'relu' }));
    }
    if (recipe instanceof Normalization) {
      return fused(call('FusedBatchNorm', backend, recipe.operands, { ...recipe.attrs, activation: 'relu' }));
    }
    return inner(kernelCall);
  });

  wrap('ReluGrad', (inner) => (kernelCall) => {
    const { inputs, attrs, backend } = kernelCall;
    const y = inputs.y as TensorInfo;
    const dy = inputs.dy as TensorInfo;
    if (!isLargeFloat(y) || dy.dtype !== 'float32') return inner(kernelCall);
    // A sum of gradients may go on waiting, for a batch norm's gradient that takes both.
    const isSum = backend.unresolved(dy).recipe instanceof Addition;
    const goesOn = isSum && normOf.get(backend.storage(y))?.isResidual === true;
    const operands = { dy: (goesOn ? unmade : operandOf)(backend, dy), y: operandOf(backend, y) };
    return wait(backend, y.shape, new ReluGradient('ReluGrad', operands, attrs), inner);
  });

  wrap('FusedBatchNormGradV3', (inner) => (kernelCall) => {
    const { inputs, attrs, backend } = kernelCall;
    const gradient = backend.unresolved(inputs.dy as TensorInfo).recipe;
    if (!(gradient instanceof ReluGradient)) return inner(kernelCall);
    const { dy, y } = gradient.operands as { dy: Operand; y: Operand };
    const made = normOf.get(y.storage);
    // Whose gradient it is: by its mean, since a caller need not keep y of a batch norm without ReLU.
    const isItsGradient = made?.norm.results[1] === backend.unresolved(inputs.mean as TensorInfo);
    if (!made || !isItsGradient || attrs.activation === 'relu') return inner(kernelCall);
    const { x, scale, mean, variance } = inputs as Record<string, TensorInfo>;
    const operands = { ...operandsOf(backend, { x, scale, mean, variance } as Inputs), y };
    if (!made.isResidual) {
      return call('FusedBatchNormGradV3', backend, { ...operands, dy }, { ...attrs, activation: 'relu' });
    }
    const { recipe } = dy.storage;
    const { a, b } = (recipe instanceof Addition ? recipe.operands : { a: dy }) as { a: Operand; b?: Operand };
    const parts: Operands = b ? { dy: a, second: b } : { dy: a };
    const [dx, dScale, dOffset, up] = call('FusedBatchNormAddReluGrad', backend, { ...operands, ...parts }, attrs) as [
      TensorInfo,
      TensorInfo,
      TensorInfo,
      TensorInfo,
    ];
    backend.surrender(up, backend.unresolved(inputs.dy as TensorInfo));
    return [dx, dScale, dOffset];
  });

  wrap('AddRelu', (inner) => (kernelCall) => {
    const { inputs, attrs, backend } = kernelCall;
    const [a, b] = [inputs.a as TensorInfo, inputs.b as TensorInfo];
    if (!isLargeFloat(a) || b.dtype !== 'float32' || !util.arraysEqual(a.shape, b.shape)) return inner(kernelCall);
    const norm = [a, b].find((tensor) => waitingNorm(backend, unmade(backend, tensor)));
    if (norm) {
      const addend = operandOf(backend, norm === a ? b : a);
      const result = addNormRelu(call, backend, unmade(backend, norm), addend);
      if (result) return result;
    }
    return wait(backend, a.shape, new Waiting('AddRelu', operandsOf(backend, inputs), attrs), inner);
  });
  return kernels;
}

function isLargeFloat({ dtype, shape }: TensorInfo): boolean {
  return dtype === 'float32' && shape.length >= 2 && util.sizeFromShape(shape) >= SMALL;
}

function isBias(b: TensorInfo, { shape }: TensorInfo): boolean {
  return b.shape.length === 1 && b.shape[0] === shape.at(-1);
}

/** What is read later must not itself wait then: its operands would live longer than they have to. */
function operandOf(backend: OneDnnBackend, tensor: TensorInfo): Operand {
  return { storage: backend.storage(tensor), shape: tensor.shape };
}

/** As {@link operandOf}, of data that may go on waiting. */
function unmade(backend: OneDnnBackend, tensor: TensorInfo): Operand {
  return { storage: backend.unresolved(tensor), shape: tensor.shape };
}

function operandsOf(backend: OneDnnBackend, inputs: Inputs): Operands {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, tensor]) => [name, operandOf(backend, tensor as TensorInfo)]),
  );
}

function callWith(kernel: CompleteKernel, backend: OneDnnBackend, operands: Operands, attrs: Attrs) {
  const names = Object.keys(operands);
  return backend.withTensors(Object.values(operands), (...tensors) =>
    backend.attempt(kernel, {
      inputs: Object.fromEntries(names.map((name, i) => [name, tensors[i]])) as Inputs,
      attrs,
      backend,
    }),
  );
}

function wait(backend: OneDnnBackend, shape: readonly number[], waiting: Waiting, kernel: CompleteKernel): TensorInfo {
  const result = backend.unmade(shape);
  const storage = backend.unresolved(result);
  const compute = () => {
    const { operands, attrs } = waiting;
    backend.surrender(callWith(kernel, backend, operands, attrs) as TensorInfo, storage);
  };
  storage.defer(waiting.reads, compute, waiting);
  return result;
}

/** Computes what is missing of a batch norm. Whoever reads one of its results first gets all of them made. */
function normalize(kernel: CompleteKernel, backend: OneDnnBackend, norm: BatchNorm): void {
  give(backend, norm, callWith(kernel, backend, norm.operands, norm.attrs) as TensorInfo[]);
}

/** Batch norm and ReLU in one; null if nothing is left to fuse, and then nothing has happened. */
function normalizeRelu(call: Call, backend: OneDnnBackend, norm: BatchNorm): TensorInfo | null {
  // Only once: a second ReLU of the same batch norm would compute everything again.
  if (norm.open.size < norm.results.length) return null;
  const attrs = { ...norm.attrs, activation: 'relu' };
  const outputs = call('FusedBatchNormV3', backend, norm.operands, attrs) as [TensorInfo, ...TensorInfo[]];
  const [result, ...statistics] = outputs;
  give(backend, norm, [null, ...statistics]);
  normOf.set(backend.storage(result), { norm, isResidual: false });
  return result;
}

/** The batch norm whose result a tensor is, if nobody has made it and it can be made together with what is added to it. */
function waitingNorm(backend: OneDnnBackend, { storage, shape }: Operand): BatchNorm | null {
  const norm = storage.recipe;
  if (!(norm instanceof BatchNorm) || norm.results[0] !== storage || norm.open.size < norm.results.length) return null;
  const { x } = norm.operands as { x: Operand };
  const isWhole = util.arraysEqual(x.shape as number[], shape as number[]);
  return isWhole && takesResidual(backend.runtime, x.shape, x.storage.layout?.current) ? norm : null;
}

/** Batch norm, addition and ReLU in one; null if `sum` waits for no batch norm, or nobody knows whether the addend is finite. */
function addNormRelu(call: Call, backend: OneDnnBackend, sum: Operand, addend: Operand): TensorInfo | null {
  const norm = waitingNorm(backend, sum);
  if (!norm || !addend.storage.finite) return null;
  const outputs = call('FusedBatchNormAddRelu', backend, { ...norm.operands, addend }, norm.attrs);
  const [result, ...statistics] = outputs as [TensorInfo, ...TensorInfo[]];
  give(backend, norm, [null, ...statistics]);
  normOf.set(backend.storage(result), { norm, isResidual: true });
  return result;
}

/** Gives results to those that still wait for them, and the others away. */
function give(backend: OneDnnBackend, norm: BatchNorm, made: readonly (TensorInfo | null)[]): void {
  for (const [i, result] of made.entries()) {
    if (result === null) continue;
    const target = norm.results[i] as TensorStorage;
    if (norm.open.delete(target) && target.isAlive) backend.surrender(result, target);
    else backend.disposeData(result.dataId, true);
  }
}

/** Shape of a convolution that may wait; null for one that is left alone: not f32, not channels last, activated already. */
function outputShape(name: string, inputs: Inputs, attrs: Attrs): readonly number[] | null {
  const { x, filter, bias, preluActivationWeights } = inputs as Record<string, TensorInfo | undefined>;
  if (!x || !filter || preluActivationWeights || attrs.dataFormat === 'NCHW' || !isLargeFloat(x)) return null;
  if (filter.dtype !== 'float32' || (bias && bias.dtype !== 'float32')) return null;
  if (name === 'FusedConv2D' && (attrs.activation ?? 'linear') !== 'linear') return null;
  const info = conv2DInfo(x.shape, filter.shape, attrs as unknown as Parameters<typeof conv2DInfo>[2]);
  if (!info || (bias && (bias.shape.length !== 1 || bias.shape[0] !== info.outChannels))) return null;
  return info.outShape;
}
