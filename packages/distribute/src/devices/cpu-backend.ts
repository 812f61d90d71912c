/**
 * Backend module of the default provider: TensorFlow.js' own `cpu` backend, which has every kernel and hurries with none.
 */
import '@tensorflow/tfjs-backend-cpu';
// In Node, TensorFlow.js' gradients are registered by the layers package alone.
import '@tensorflow/tfjs-layers';
import * as tf from '@tensorflow/tfjs-core';
import type { BackendSetup } from './device.js';

/** @throws Error if TensorFlow.js refuses its own backend. */
export default async function setup(_setup: BackendSetup): Promise<void> {
  if (!(await tf.setBackend('cpu'))) throw new Error("TensorFlow.js could not initialise its 'cpu' backend.");
  // Once per thread it would print an advice to install another backend, which this choice has already considered.
  (tf.backend() as unknown as { firstUse: boolean }).firstUse = false;
}
