/**
 * What a replica's thread loads to compute on a GPU: the device module of the provider 'webgpu'. Its default export opens a Dawn device of
 * the thread's own and makes it TensorFlow.js' backend `webgpu`.
 */
// In Node, TensorFlow.js' gradients are registered by the layers package alone.
import '@tensorflow/tfjs-layers';
import * as tf from '@tensorflow/tfjs-core';
import { readFacts } from './adapter-facts.js';
import { openBackend } from './backend.js';
import { countedAdapters } from './device-provider.js';
import { type GpuHostAccess, hostAccessOf } from './host-access.js';
import { registerKernels } from './kernels/register.js';

export interface DeviceSetup {
  /** As the provider counts its devices. */
  readonly index: number;
  /** 'gpu:0', for messages. */
  readonly device: string;
}

const NAME = 'webgpu';

/**
 * @returns how the GPU's memory is reached
 * @throws DawnNotFoundError; Error if the GPU is gone
 */
export default async function setup({ index, device }: DeviceSetup): Promise<GpuHostAccess> {
  const adapters = countedAdapters(await readFacts());
  const place = adapters[index];
  if (!place) {
    throw new Error(
      `The GPU ${device} is not there any more: WebGPU finds ${adapters.length} now.\n` +
        'help: `lockstep devices` lists them; see whether its driver was reset.',
    );
  }
  registerKernels();
  const backend = await openBackend(place, device);
  // TensorFlow.js registers one of its own where the global scope has a GPU.
  if (tf.findBackend(NAME) || tf.findBackendFactory(NAME)) tf.removeBackend(NAME);
  tf.registerBackend(NAME, () => backend, 0);
  if (!(await tf.setBackend(NAME))) throw new Error(`The backend '${NAME}' could not be made on ${device}.`);
  // Carried by the backend, too: whoever uses it where nobody adopts what is returned finds it there.
  return Object.assign(backend, { hostAccess: hostAccessOf(backend) }).hostAccess;
}
