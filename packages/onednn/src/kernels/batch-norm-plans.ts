/**
 * What computes a batch normalization in training: code of our own where the data lie in blocks of 16 channels and the CPU has AVX-512
 * (jit/batch-norm-forward.ts, -backward.ts), and else a primitive of oneDNN's.
 */
import { Arg, NormalizationFlag, Prop, Query } from '../ffi/constants.js';
import type { MemoryDescriptor, PrimitiveDescriptor } from '../ffi/dnnl.js';
import { backwardCode, backwardScratch } from '../jit/batch-norm-backward.js';
import { codeFits, forwardCode, forwardScratch } from '../jit/batch-norm-forward.js';
import type { NormShape } from '../jit/norm-code.js';
import { blocked, channelsLast, fillsBlocks } from '../layout.js';
import type { PrimitiveArgument, Runnable } from '../primitive.js';
import { QUICK_BYTES, type Runtime } from '../runtime.js';

export interface BatchNormAttrs {
  readonly epsilon: number;
  readonly activation?: 'linear' | 'relu';
}

/** How it is tied into a residual network: see NormShape. There is code for that, and no primitive. */
export interface Residual {
  readonly residual: boolean;
  readonly hasSecond: boolean;
}

const ALONE: Residual = { residual: false, hasSecond: false };

/**
 * Forward it takes the addresses of x, y, scale, shift, mean, variance; backward those of x, dy, dx, scale, mean, variance and the gradients
 * of scale and shift, and a shift's if it names one. With ReLU that of its bits follows; in a residual network forward that of what is added,
 * backward that of ReLU's gradient and of the second part of the one that arrives.
 */
interface BatchNormPlan {
  readonly primitive: Runnable;
  /** Of ReLU's bits, whose order is that of who made them; 0 without ReLU. */
  readonly bitBytes: number;
  /** Whether backward an address of a shift is asked for, which is not read: no gradient depends on it. */
  readonly namesShift: boolean;
  destroy(): void;
}

const { useScale, useShift, fuseNormRelu } = NormalizationFlag;

function flagsOf(activation: string | undefined): number {
  return useScale | useShift | (activation === 'relu' ? fuseNormRelu : 0);
}

/** A tensor of [n, …, c] as oneDNN sees it; matrices count as batches of single pixels. */
export function view(runtime: Runtime, shape: readonly number[]): MemoryDescriptor {
  return channelsLast(runtime, viewShape(shape));
}

function viewShape(shape: readonly number[]): readonly number[] {
  return shape.length === 2 ? [shape[0] as number, 1, 1, shape[1] as number] : shape;
}

/** What code is to be made for; null if it is not for data like these. */
function normShape(
  runtime: Runtime,
  shape: readonly number[],
  layout: MemoryDescriptor,
  { epsilon, activation }: BatchNormAttrs,
  ties: Residual,
): NormShape | null {
  const channels = shape.at(-1) as number;
  const type = layout.dataType;
  const isTypeKnown = type === 'f32' || (type === 'bf16' && runtime.hasBf16);
  if (!runtime.machine || !isTypeKnown || !fillsBlocks(runtime, channels)) return null;
  if (!runtime.isSameMemory(layout, blocked(runtime, viewShape(shape), type))) return null;
  const images = shape[0] as number;
  const pixels = shape.slice(1, -1).reduce((product, size) => product * size, 1);
  const blocks = channels / runtime.channelBlock;
  const norm = { images, blocks, pixels, type, epsilon, relu: activation === 'relu', ...ties };
  return codeFits(norm) ? norm : null;
}

/** Whether data like these can be normalized as part of a residual network. */
export function takesResidual(
  runtime: Runtime,
  shape: readonly number[],
  layout: MemoryDescriptor | undefined,
): boolean {
  return layout !== undefined && normShape(runtime, shape, layout, { epsilon: 0 }, ALONE) !== null;
}

/** A plan of our own code; null where it is not for such data, or cannot run. */
function codePlan(
  runtime: Runtime,
  shape: readonly number[],
  layout: MemoryDescriptor,
  attrs: BatchNormAttrs,
  ties: Residual,
  isForward: boolean,
): BatchNormPlan | null {
  const norm = normShape(runtime, shape, layout, attrs, ties);
  if (!norm || !runtime.machine) {
    if (ties.residual) throw new Error(`There is no code for a residual batch normalization of [${layout.dims}].`);
    return null;
  }
  const { openMp } = runtime.machine;
  // A bit for each of a vector's 16 elements.
  const bitBytes = norm.relu ? 2 * norm.images * norm.blocks * norm.pixels : 0;
  const channel = runtime.rowMajor([16 * norm.blocks]);
  const tensors = isForward ? [layout, layout] : [layout, layout, layout];
  const layouts = [...tensors, ...new Array<MemoryDescriptor>(isForward ? 4 : 5).fill(channel)];
  if (norm.relu) layouts.push(runtime.rowMajor([bitBytes], 'u8'));
  if (norm.residual) layouts.push(layout);
  if (norm.hasSecond) layouts.push(layout);
  const primitive = runtime.codePrimitive(runtime.machine, {
    code: isForward ? forwardCode(norm, openMp) : backwardCode(norm, openMp),
    label: `${labelOf(isForward, layout, attrs)}${norm.residual ? ' residual' : ''}`,
    layouts,
    scratchBytes: isForward ? forwardScratch(norm) : backwardScratch(norm),
    threads: layout.byteLength <= QUICK_BYTES / 2 ? 1 : 0,
  });
  return { primitive, bitBytes, namesShift: false, destroy: () => primitive.destroy() };
}

function labelOf(isForward: boolean, { dims }: MemoryDescriptor, { activation }: BatchNormAttrs): string {
  return `batch_norm_${isForward ? 'forward' : 'backward'} [${dims}] ${activation ?? ''}`;
}

function forwardDescriptor(runtime: Runtime, layout: MemoryDescriptor, attrs: BatchNormAttrs): PrimitiveDescriptor {
  const flags = flagsOf(attrs.activation);
  const descriptor = runtime.dnnl.batchNormForward(Prop.forwardTraining, layout, attrs.epsilon, flags);
  if (!descriptor) throw new Error(`oneDNN offers no batch normalization of [${layout.dims}].`);
  return descriptor;
}

/** What every plan is made from: see {@link BatchNormPlan}. `shape` is x's. */
type PlanArguments = readonly [
  runtime: Runtime,
  shape: readonly number[],
  layout: MemoryDescriptor,
  attrs: BatchNormAttrs,
  ties?: Residual,
];

export function forwardPlan(...args: PlanArguments): BatchNormPlan {
  return plan(true, forwardPrimitive, ...args);
}

export function backwardPlan(...args: PlanArguments): BatchNormPlan {
  return plan(false, backwardPrimitive, ...args);
}

function plan(
  isForward: boolean,
  primitive: (runtime: Runtime, layout: MemoryDescriptor, attrs: BatchNormAttrs) => BatchNormPlan,
  ...[runtime, shape, layout, attrs, ties = ALONE]: PlanArguments
): BatchNormPlan {
  const { epsilon, activation } = attrs;
  return runtime.compiled(
    `bn ${isForward} ${layout.id} ${epsilon} ${activation} ${ties.residual} ${ties.hasSecond}`,
    () => codePlan(runtime, shape, layout, attrs, ties, isForward) ?? primitive(runtime, layout, attrs),
  );
}

function forwardPrimitive(runtime: Runtime, layout: MemoryDescriptor, attrs: BatchNormAttrs): BatchNormPlan {
  const descriptor = forwardDescriptor(runtime, layout, attrs);
  const workspace = attrs.activation === 'relu' ? descriptor.query(Query.workspace) : null;
  const channel = runtime.rowMajor([layout.dims[1] as number]);
  const args: PrimitiveArgument[] = [
    [Arg.src, layout],
    [Arg.dst, layout],
    [Arg.scale, channel],
    [Arg.shift, channel],
    [Arg.mean, channel],
    [Arg.variance, channel],
  ];
  if (workspace) args.push([Arg.workspace, workspace]);
  const primitive = runtime.primitive(descriptor, args, labelOf(true, layout, attrs));
  return { primitive, bitBytes: workspace?.byteLength ?? 0, namesShift: false, destroy: () => primitive.destroy() };
}

function backwardPrimitive(runtime: Runtime, layout: MemoryDescriptor, attrs: BatchNormAttrs): BatchNormPlan {
  const hint = forwardDescriptor(runtime, layout, attrs);
  const workspace = attrs.activation === 'relu' ? hint.query(Query.workspace) : null;
  const flags = flagsOf(attrs.activation);
  const descriptor = runtime.dnnl.batchNormBackward(layout, layout, attrs.epsilon, flags, hint);
  hint.destroy();
  if (!descriptor) throw new Error(`oneDNN offers no batch normalization gradient of [${layout.dims}].`);
  const channel = runtime.rowMajor([layout.dims[1] as number]);
  const args: PrimitiveArgument[] = [
    [Arg.src, layout],
    [Arg.diffDst, layout],
    [Arg.diffSrc, layout],
    [Arg.scale, channel],
    [Arg.mean, channel],
    [Arg.variance, channel],
    [Arg.diffScale, channel],
    [Arg.diffShift, channel],
  ];
  const namesShift = runtime.dnnl.batchNormBackwardTakesShift;
  if (namesShift) args.push([Arg.shift, channel]);
  if (workspace) args.push([Arg.workspace, workspace]);
  const primitive = runtime.primitive(descriptor, args, labelOf(false, layout, attrs));
  return { primitive, bitBytes: workspace?.byteLength ?? 0, namesShift, destroy: () => primitive.destroy() };
}
