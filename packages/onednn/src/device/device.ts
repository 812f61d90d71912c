/**
 * What a replica's thread loads to compute on oneDNN: the device module of the provider 'onednn'. Its default export makes
 * 'onednn' the backend of the thread's TensorFlow.js engine, with the threads that the device owns.
 */
import { backend, setBackend } from '@tensorflow/tfjs-core';
import type { OneDnnBackend, OneDnnHostAccess } from '../backend.js';
import { BACKEND_NAME } from '../kernels/kernel.js';
import { configure, register } from '../register.js';
import { checkSwitches } from '../runtime.js';

export interface DeviceSetup {
  /** OpenMP threads of this replica. */
  readonly threads: number;
  /** Logical cores that the thread is pinned to; oneDNN needs no more than that they are there. */
  readonly cores: readonly number[];
  /** Such as 'cpu:0'. */
  readonly device: string;
}

/**
 * @returns how the backend's memory is reached
 * @throws OneDnnNotFoundError when the library is not installed, RangeError for a switch (LOCKSTEP_WINOGRAD, …) that means nothing.
 */
export default async function setup({ threads, device }: DeviceSetup): Promise<OneDnnHostAccess> {
  // The thread may have its backend already, which was made with other switches.
  checkSwitches(process.env);
  register();
  configure({ threads });
  if (!(await setBackend(BACKEND_NAME))) throw new Error(`The backend 'onednn' could not be made on ${device}.`);
  return (backend() as OneDnnBackend).hostAccess;
}
