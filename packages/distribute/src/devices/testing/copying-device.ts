/**
 * For tests: a device whose tensors are copies, as a GPU's are: TensorFlow.js' `cpu` backend that copies whatever a tensor is made of,
 * and whatever is read. Its module hands over no HostAccess. LOCKSTEP_TEST_PROVIDER=<URL of this file> runs other suites on it.
 */
import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
// In Node, TensorFlow.js' gradients are registered by the layers package alone.
import '@tensorflow/tfjs-layers';
import * as tf from '@tensorflow/tfjs-core';
import type { DeviceProvider } from '../device.js';

export const deviceProvider: DeviceProvider = {
  name: 'copying',
  priority: 100,
  backendModule: import.meta.url,
  devices: () => [{ type: 'CPU', index: 0 }],
};

type Values = tf.backend_util.BackendValues;

/** Also of plain lists: kernels of `cpu` make some. */
export function copyOf(values: Values): Values {
  return values?.slice() as Values;
}

/** See the file's head. */
export class CopyingBackend extends MathBackendCPU {
  constructor() {
    super();
    // Advice to install another backend.
    (this as unknown as { firstUse: boolean }).firstUse = false;
  }

  override write(values: Values, shape: number[], dtype: tf.DataType): object {
    return super.write(copyOf(values), shape, dtype);
  }

  override move(dataId: object, values: Values, shape: number[], dtype: tf.DataType, refCount: number): void {
    super.move(dataId, copyOf(values), shape, dtype, refCount);
  }

  override readSync(dataId: object): Values {
    return copyOf(super.readSync(dataId));
  }
}

/** Registers a backend with `cpu`'s kernels, once per thread, and makes it this thread's. */
export async function useBackend(name: string, make: () => tf.KernelBackend): Promise<void> {
  if (!tf.findBackendFactory(name)) {
    tf.copyRegisteredKernels('cpu', name);
    tf.registerBackend(name, make, 0);
  }
  if (!(await tf.setBackend(name))) throw new Error(`No backend ${name}.`);
}

/** The device module. */
export default async function setup(): Promise<void> {
  await useBackend('copying', () => new CopyingBackend());
}
