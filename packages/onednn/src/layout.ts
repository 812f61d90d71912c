/**
 * How TensorFlow.js' shapes look to oneDNN: the same memory, dimensions in oneDNN's order (batch, channels, space), and the
 * layout that is fastest for it.
 */
import type { DataTypeName } from './ffi/constants.js';
import type { MemoryDescriptor } from './ffi/dnnl.js';
import { type Runtime, rowMajorStrides } from './runtime.js';

/** `[n, …space, c]` (channels last) as oneDNN's `[n, c, …space]` over the same memory. */
export function channelsLast(runtime: Runtime, shape: readonly number[], type: DataTypeName = 'f32'): MemoryDescriptor {
  return runtime.layout(`last ${type} ${shape}`, () => {
    const strides = rowMajorStrides(shape);
    const last = shape.length - 1;
    const order = <T>(values: readonly T[]): T[] => [values[0] as T, values[last] as T, ...values.slice(1, last)];
    return runtime.dnnl.descriptor(order(shape), type, { strides: order(strides) });
  });
}

/** A channels-last shape in memory of its own with channels first: what a first convolution (1 to 3 channels) reads best. */
export function channelsFirst(
  runtime: Runtime,
  shape: readonly number[],
  type: DataTypeName = 'f32',
): MemoryDescriptor {
  const last = shape.length - 1;
  return runtime.rowMajor([shape[0] as number, shape[last] as number, ...shape.slice(1, last)], type);
}

/** A channels-last shape in blocks of channels; only for channel counts that fill their blocks. */
export function blocked(runtime: Runtime, shape: readonly number[], type: DataTypeName = 'f32'): MemoryDescriptor {
  return runtime.layout(`blocked ${type} ${shape}`, () => {
    const last = shape.length - 1;
    const dims = [shape[0] as number, shape[last] as number, ...shape.slice(1, last)];
    const descriptor = runtime.dnnl.descriptor(dims, type, { channelBlock: runtime.channelBlock });
    if (isOneBlock(runtime, shape[last] as number))
      runtime.nameSameMemory(descriptor, channelsLast(runtime, shape, type));
    return descriptor;
  });
}

/** Whether channels make up one block exactly: then blocked and channels-last order are the same. */
export function isOneBlock(runtime: Runtime, channels: number): boolean {
  return channels === runtime.channelBlock;
}

export function fillsBlocks(runtime: Runtime, channels: number): boolean {
  return channels > 0 && channels % runtime.channelBlock === 0;
}

/** TensorFlow's filter `[…space, in, out]` as oneDNN's `[out, in, …space]` over the same memory. */
export function filterLayout(runtime: Runtime, shape: readonly number[], type: DataTypeName = 'f32'): MemoryDescriptor {
  return runtime.layout(`filter ${type} ${shape}`, () => {
    const strides = rowMajorStrides(shape);
    const space = shape.length - 2;
    const order = <T>(values: readonly T[]): T[] => [
      values[space + 1] as T,
      values[space] as T,
      ...values.slice(0, space),
    ];
    return runtime.dnnl.descriptor(order(shape), type, { strides: order(strides) });
  });
}

/** As {@link filterLayout}, with inputs and outputs exchanged: the filter of the convolution that goes the other way. */
export function exchangedFilterLayout(
  runtime: Runtime,
  shape: readonly number[],
  type: DataTypeName = 'f32',
): MemoryDescriptor {
  return runtime.layout(`exchanged filter ${type} ${shape}`, () => {
    const strides = rowMajorStrides(shape);
    const space = shape.length - 2;
    const order = <T>(values: readonly T[]): T[] => [
      values[space] as T,
      values[space + 1] as T,
      ...values.slice(0, space),
    ];
    return runtime.dnnl.descriptor(order(shape), type, { strides: order(strides) });
  });
}
