/**
 * How code reaches a GPU's memory: the HostAccess of `@lockstep/distribute`, by shape alone. Reading begins at once and arrives later,
 * piece by piece (read-back.ts); writing goes to the variable's own buffer, behind all that still reads it.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { GpuBackend } from './backend.js';
import { ReadBack } from './read-back.js';

/** HostAccess of `@lockstep/distribute`, as far as a GPU has it. */
export interface GpuHostAccess {
  readonly aliases: false;
  read(tensor: tf.Tensor, target: Float32Array, landed?: () => void): void;
  settled(): void | Promise<void>;
  write(variable: tf.Variable, values: Float32Array): void;
  observe(tensors: readonly tf.Tensor[], observer: (...values: never[]) => void): void;
}

type Values = Float32Array | Int32Array | Uint8Array;

const BYTES = 4;

export function hostAccessOf(backend: GpuBackend): GpuHostAccess {
  const readBack = new ReadBack(backend);
  let scratch = new Float32Array();

  /** @param arrive with values that are valid in the call only; at once for a tensor that is not on the GPU. */
  const fetch = (tensor: tf.Tensor, arrive: (values: Values) => void): void => {
    const { dtype, size, dataId } = tensor;
    if (!['float32', 'int32', 'bool'].includes(dtype)) throw new TypeError(`A tensor of ${dtype} cannot be read back.`);
    const { resource } = backend.tensorMap.get(dataId);
    if (!resource || size === 0) arrive(tensor.dataSync() as Values);
    else {
      readBack.fetch(resource as GPUBuffer, size * BYTES, (bytes, offset) => {
        if (dtype === 'float32') arrive(new Float32Array(bytes, offset, size));
        else {
          const values = new Int32Array(bytes, offset, size);
          arrive(dtype === 'bool' ? Uint8Array.from(values) : values);
        }
      });
    }
  };

  return {
    aliases: false,
    read(tensor, target, landed) {
      fetch(tensor, (values) => {
        target.set(values);
        landed?.();
      });
    },
    settled() {
      backend.check();
      return readBack.isBusy ? readBack.arriveAll() : undefined;
    },
    write(variable, values) {
      const data = backend.tensorMap.get(variable.dataId);
      // Somebody else has the same data, or it never came to the GPU: the variable gets data of its own.
      if (!data.resource || data.refCount > 1) {
        const tensor = tf.tensor(values.slice(), variable.shape, 'float32');
        variable.assign(tensor);
        tensor.dispose();
        return;
      }
      backend.submit();
      // Dawn's binding takes no shared memory.
      if (scratch.length < values.length) scratch = new Float32Array(values.length);
      scratch.set(values);
      backend.queue.writeBuffer(data.resource as GPUBuffer, 0, scratch, 0, values.length);
      // What was read of it before.
      (data as { values: unknown }).values = null;
    },
    observe(tensors, observer) {
      const all: Values[] = [];
      if (tensors.length === 0) observer();
      for (const [i, tensor] of tensors.entries()) {
        fetch(tensor, (values) => {
          // The last one may arrive in another piece.
          all[i] = values.slice();
          if (all.filter((found) => found !== undefined).length === tensors.length) observer(...(all as never[]));
        });
      }
    },
  };
}
