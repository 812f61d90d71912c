/** What kernels of every kind need: a tensor's plain values and their address, which types they take, from which size a primitive pays. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import type { Primitive } from '../primitive.js';
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

/** A cached primitive, or the cached knowledge that there is none. */
export function optional(runtime: Runtime, key: string, make: () => Primitive | null): Primitive | null {
  return runtime.compiled(key, () => {
    const primitive = make();
    return { primitive, destroy: () => primitive?.destroy() };
  }).primitive;
}

/** Address of a tensor's row-major values. */
export function plainAddress(backend: OneDnnBackend, tensor: TensorInfo): number {
  const storage = backend.storage(tensor);
  storage.makePlain();
  return storage.address;
}
