/**
 * oneDNN's C API as the rest of the backend sees it: memory descriptors, primitive descriptors, primitives. This is the
 * one interface behind which the API generations differ (2.6: operation descriptors; 3.x: none); nothing above it knows
 * a version. It is not a tensor library: it knows no TensorFlow.js and owns no buffers.
 */
import type { DataTypeName } from './constants.js';

/**
 * A memory descriptor: logical dimensions (N, C, spatial for activations; O, I, spatial for weights), element type, and
 * where each element lies. Interned: two descriptors are equal exactly if they are the same object.
 */
export interface MemoryDescriptor {
  readonly id: number;
  readonly dims: readonly number[];
  readonly dataType: DataTypeName;
  /** Bytes that a buffer needs, padding included. */
  readonly byteLength: number;
  /** 'any' descriptors ask a primitive to choose. */
  readonly isAny: boolean;
  /** What the library takes for this descriptor: bytes of a struct (2.x) or a handle (3.x). */
  readonly native: Uint8Array | number;
}

/** How the elements of a descriptor lie: an explicit stride for each dimension, channel blocks, or the primitive's choice. */
export type Format = 'any' | { readonly strides: readonly number[] } | { readonly channelBlock: 8 | 16 };

/** A primitive descriptor: what will be computed, by which implementation, with which layouts. */
export interface PrimitiveDescriptor {
  readonly handle: number;
  /** The implementation's name, such as `jit:avx512_core`; names with `ref` are slow. */
  readonly implementation: string;
  query(what: number, index?: number): MemoryDescriptor | null;
  destroy(): void;
}

/** Operations that run on the result before it is stored. */
export type PostOp =
  | { readonly kind: 'sum'; readonly scale: number }
  | { readonly kind: 'eltwise'; readonly alg: number; readonly alpha: number; readonly beta: number }
  | { readonly kind: 'binary'; readonly alg: number; readonly src1: MemoryDescriptor };

export interface ConvolutionShape {
  readonly strides: readonly number[];
  /** Zero-based: 0 is an ordinary convolution. */
  readonly dilates: readonly number[];
  readonly padBegin: readonly number[];
  readonly padEnd: readonly number[];
}

export interface PoolingShape extends ConvolutionShape {
  readonly kernel: readonly number[];
}

/** Creation returns null where oneDNN says `unimplemented`; every other failure throws {@link OneDnnError}. */
export interface Dnnl {
  readonly version: { readonly major: number; readonly minor: number; readonly patch: number };
  readonly path: string;
  readonly engine: number;
  readonly stream: number;
  /** Version 2 wants batch norm's shift among the backward pass's arguments though it is not used; version 3 refuses it. */
  readonly batchNormBackwardTakesShift: boolean;
  descriptor(dims: readonly number[], dataType: DataTypeName, format: Format): MemoryDescriptor;
  convolutionForward(
    prop: number,
    alg: number,
    src: MemoryDescriptor,
    weights: MemoryDescriptor,
    bias: MemoryDescriptor | null,
    dst: MemoryDescriptor,
    shape: ConvolutionShape,
    postOps?: readonly PostOp[],
  ): PrimitiveDescriptor | null;
  convolutionBackwardData(
    alg: number,
    diffSrc: MemoryDescriptor,
    weights: MemoryDescriptor,
    diffDst: MemoryDescriptor,
    shape: ConvolutionShape,
    hint: PrimitiveDescriptor,
  ): PrimitiveDescriptor | null;
  convolutionBackwardWeights(
    alg: number,
    src: MemoryDescriptor,
    diffWeights: MemoryDescriptor,
    diffBias: MemoryDescriptor | null,
    diffDst: MemoryDescriptor,
    shape: ConvolutionShape,
    hint: PrimitiveDescriptor,
  ): PrimitiveDescriptor | null;
  batchNormForward(prop: number, src: MemoryDescriptor, epsilon: number, flags: number): PrimitiveDescriptor | null;
  batchNormBackward(
    diffData: MemoryDescriptor,
    data: MemoryDescriptor,
    epsilon: number,
    flags: number,
    hint: PrimitiveDescriptor,
  ): PrimitiveDescriptor | null;
  /** Over the last dimension of `src`; mean and variance lie as `statistics` says. */
  layerNormForward(
    prop: number,
    src: MemoryDescriptor,
    statistics: MemoryDescriptor,
    epsilon: number,
    flags: number,
  ): PrimitiveDescriptor | null;
  layerNormBackward(
    src: MemoryDescriptor,
    statistics: MemoryDescriptor,
    epsilon: number,
    flags: number,
    hint: PrimitiveDescriptor,
  ): PrimitiveDescriptor | null;
  eltwiseForward(
    prop: number,
    alg: number,
    src: MemoryDescriptor,
    alpha: number,
    beta: number,
  ): PrimitiveDescriptor | null;
  eltwiseBackward(
    alg: number,
    diffData: MemoryDescriptor,
    data: MemoryDescriptor,
    alpha: number,
    beta: number,
    hint: PrimitiveDescriptor,
  ): PrimitiveDescriptor | null;
  poolingForward(
    prop: number,
    alg: number,
    src: MemoryDescriptor,
    dst: MemoryDescriptor,
    shape: PoolingShape,
  ): PrimitiveDescriptor | null;
  poolingBackward(
    alg: number,
    diffSrc: MemoryDescriptor,
    diffDst: MemoryDescriptor,
    shape: PoolingShape,
    hint: PrimitiveDescriptor,
  ): PrimitiveDescriptor | null;
  binary(
    alg: number,
    src0: MemoryDescriptor,
    src1: MemoryDescriptor,
    dst: MemoryDescriptor,
    postOps?: readonly PostOp[],
  ): PrimitiveDescriptor | null;
  matmul(
    src: MemoryDescriptor,
    weights: MemoryDescriptor,
    bias: MemoryDescriptor | null,
    dst: MemoryDescriptor,
    postOps?: readonly PostOp[],
  ): PrimitiveDescriptor | null;
  /** Reduces the dimensions that are 1 in `dst` and not in `src`. */
  reduction(alg: number, src: MemoryDescriptor, dst: MemoryDescriptor): PrimitiveDescriptor | null;
  /** Softmax, or its logarithm, over dimension `axis`. */
  softmaxForward(src: MemoryDescriptor, axis: number, isLog: boolean): PrimitiveDescriptor | null;
  reorder(src: MemoryDescriptor, dst: MemoryDescriptor): PrimitiveDescriptor | null;
  /** A primitive ready to execute; the descriptor may be destroyed afterwards. */
  createPrimitive(descriptor: PrimitiveDescriptor): number;
  /** A memory object without a buffer. */
  createMemory(descriptor: MemoryDescriptor): number;
  /** Points a memory object at a buffer's address. */
  setData(memory: number, address: number): void;
  /** Runs a primitive; returns when it is done. `argumentsAddress` is a dnnl_exec_arg_t array. */
  execute(primitive: number, count: number, argumentsAddress: number): void;
  destroyPrimitive(primitive: number): void;
  destroyMemory(memory: number): void;
}

/** oneDNN refused an operation. The message names the call, its status, and the shapes. */
export class OneDnnError extends Error {
  override readonly name = 'OneDnnError';
}
