/**
 * oneDNN as a provider of devices for `@lockstep/distribute`, by shape alone: the two packages do not import each other. They
 * meet in a registry that is found by its symbol, so that importing this package is enough, before or after the other one.
 */
import { availableParallelism } from 'node:os';
import { loadLibrary } from '../ffi/library.js';

/** Logical CPU devices, as many as there are cores, if the library is here; each replica's thread loads `backendModule`. */
export const deviceProvider = {
  name: 'onednn',
  /** TensorFlow.js' plain `cpu` has 0. */
  priority: 10,
  backendModule: new URL('./device.js', import.meta.url).href,
  devices: (): { type: string; count: number }[] =>
    whyNoLibrary() === null ? [{ type: 'CPU', count: availableParallelism() }] : [],
  /** What to install, where the library is not found; null: it is here. */
  missing: (): string | null => whyNoLibrary(),
} as const;

const REGISTRY = Symbol.for('lockstep.deviceProviders');

/** Offers the devices to strategies of this process, unless the program has decided about this name already. */
export function registerDevices(): void {
  const shared = globalThis as { [REGISTRY]?: Map<string, unknown> };
  shared[REGISTRY] ??= new Map();
  const registry = shared[REGISTRY];
  if (!registry.has(deviceProvider.name)) registry.set(deviceProvider.name, deviceProvider);
}

let isHere = false;

/** Looked for when devices are listed, not when this package is imported; once it is found, never again. */
function whyNoLibrary(): string | null {
  if (isHere) return null;
  try {
    loadLibrary();
    isHere = true;
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}
