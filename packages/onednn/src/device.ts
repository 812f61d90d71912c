/**
 * What a replica's thread loads to compute on oneDNN: the device module of the provider 'onednn'. Its default export makes
 * 'onednn' the backend of the thread's TensorFlow.js engine, with the threads that the device owns.
 */
import { setBackend } from '@tensorflow/tfjs-core';
import { BACKEND_NAME } from './kernels/kernel.js';
import { configure, register } from './register.js';

export interface DeviceSetup {
  /** OpenMP threads of this replica. */
  readonly threads: number;
  /** Logical cores that the thread is pinned to; oneDNN needs no more than that they are there. */
  readonly cores: readonly number[];
  /** Such as 'cpu:0'. */
  readonly device: string;
}

/** @throws OneDnnNotFoundError when the library is not installed. */
export default async function setup({ threads, device }: DeviceSetup): Promise<void> {
  register();
  configure({ threads });
  let failure: unknown;
  try {
    if (await setBackend(BACKEND_NAME)) return;
  } catch (error) {
    failure = error;
  }
  // TensorFlow.js swallows the reason when a backend cannot be made; making one again tells it.
  const { OneDnnBackend } = await import('./backend.js');
  new OneDnnBackend({ threads });
  throw failure ?? new Error(`The backend 'onednn' could not be made on ${device}.`);
}
