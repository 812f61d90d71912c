// Tells the suite which backend to test, and makes it. Runs inside the bundle, before any specification is declared.
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
import { setTestEnvs, setupTestFilters } from '@tensorflow/tfjs-core/dist/jasmine_util';
import { readFacts } from '../dist/adapter-facts.js';
import { openBackend } from '../dist/backend.js';
import { countedAdapters } from '../dist/device-provider.js';
import { registerKernels } from '../dist/kernels/register.js';

const { include } = globalThis.lockstepConformance;
let device = null;
/** The suite resets the engine before each specification, which disposes of the backend: one serves all. */
async function backend() {
  device ??= await openBackend(countedAdapters(await readFacts())[0], 'gpu:0');
  device.dispose = () => {};
  return device;
}
tf.registerBackend('webgpu', backend);
registerKernels();
setTestEnvs([{ name: 'test-webgpu', backendName: 'webgpu', isDataSync: false, flags: { WEBGPU_CPU_FORWARD: false } }]);
setupTestFilters(
  include.map((part) => ({ include: part })),
  () => false,
);
