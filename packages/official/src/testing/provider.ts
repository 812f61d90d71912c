/**
 * Test support: what tests compute on. @lockstep/official knows no backend, so the environment variable
 * LOCKSTEP_TEST_PROVIDER names a package that brings one, such as @lockstep/onednn; without it TensorFlow.js' own `cpu`
 * computes. Not part of the package.
 */
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-layers';
import { type DeviceProvider, registerDeviceProvider } from '@lockstep/distribute';
import * as tf from '@tensorflow/tfjs-core';

const name = process.env.LOCKSTEP_TEST_PROVIDER;
const provider = name ? ((await import(name)) as { deviceProvider: DeviceProvider }).deviceProvider : null;
if (provider) registerDeviceProvider(provider);

/** The backends of this thread to test on: `cpu`, and the provider's. */
export const BACKENDS: readonly string[] = provider ? ['cpu', provider.name] : ['cpu'];

/** The fastest of them; replicas of a run use it as well. */
export const FAST = BACKENDS.at(-1) as string;

/** Runs `compute` on a backend. */
export async function on<T>(backend: string, compute: () => T): Promise<T> {
  if (!(await tf.setBackend(backend))) throw new Error(`No backend ${backend}.`);
  return compute();
}
