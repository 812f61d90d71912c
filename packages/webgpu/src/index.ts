/**
 * @lockstep/webgpu: GPUs of any maker, through WebGPU. `import '@lockstep/webgpu'` offers them, as gpu:0, gpu:1, …, to the strategies of
 * `@lockstep/distribute`. What a replica's thread loads to compute on one is device.ts.
 */
import { registerDevices } from './device-provider.js';

registerDevices();

export { type AdapterFacts, type AdapterPlace, DawnNotFoundError } from './adapter.js';
export { probe } from './adapters.js';
export { deviceProvider, type GpuOffer } from './device-provider.js';
export { LOGICAL_VARIABLE, SOFTWARE_VARIABLE } from './switches.js';
