/**
 * What kernels of every kind need: a tensor's plain values and their address, which types they take, from which size a primitive
 * pays, and a primitive only where oneDNN has fast code.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import type { PrimitiveDescriptor } from '../ffi/dnnl.js';
import type { Primitive, PrimitiveArgument } from '../primitive.js';
import type { Runtime } from '../runtime.js';
import type { TypedValues } from './loops.js';

/** Elements from which a primitive beats a loop in JavaScript: it costs about as much to start as this many additions. */
export const SMALL = 2048;
/** The same for exp, tanh and their like, which cost ten times as much in a loop. */
export const SMALL_COSTLY = 384;

/** True for the types that loops here take: TensorFlow.js has complex numbers and strings besides. */
export function isNumeric({ dtype }: TensorInfo): boolean {
  return dtype === 'float32' || dtype === 'int32' || dtype === 'bool';
}

/** Plain values of a tensor, for a loop that runs in {@link Runtime.host}, where it may run again. */
export function viewOf(backend: OneDnnBackend, tensor: TensorInfo): TypedValues {
  return backend.storage(tensor).view() as TypedValues;
}

/** As {@link viewOf}, of tensors that are f32. */
export function floatsOf<const T extends readonly TensorInfo[]>(
  backend: OneDnnBackend,
  ...tensors: T
): { -readonly [K in keyof T]: Float32Array } {
  return tensors.map((tensor) => viewOf(backend, tensor)) as { -readonly [K in keyof T]: Float32Array };
}

/** A cached primitive, or the cached knowledge that there is none. */
export function optional(runtime: Runtime, key: string, make: () => Primitive | null): Primitive | null {
  return runtime.compiled(key, () => {
    const primitive = make();
    return { primitive, destroy: () => primitive?.destroy() };
  }).primitive;
}

/** A primitive from its descriptor, which it consumes; null where there is none, or only oneDNN's slow reference code. */
export function fastPrimitive(
  runtime: Runtime,
  descriptor: PrimitiveDescriptor | null,
  args: readonly PrimitiveArgument[],
  label: string,
): Primitive | null {
  if (descriptor?.implementation.startsWith('ref')) {
    descriptor.destroy();
    return null;
  }
  return descriptor && runtime.primitive(descriptor, args, label);
}

/** Address of a tensor's row-major values. */
export function plainAddress(backend: OneDnnBackend, tensor: TensorInfo): number {
  const storage = backend.storage(tensor);
  storage.makePlain();
  return storage.address;
}
