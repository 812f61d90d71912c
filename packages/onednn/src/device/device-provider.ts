/**
 * oneDNN as a provider of devices for `@lockstep/distribute`, by shape alone: the two packages do not import each other. They
 * meet in a registry that is found by its symbol, so that importing this package is enough, before or after the other one.
 */

/** Logical CPU devices, as many as are asked for; each replica's thread loads `backendModule`. */
export const deviceProvider = {
  name: 'onednn',
  /** TensorFlow.js' plain `cpu` has 0. */
  priority: 10,
  backendModule: new URL('./device.js', import.meta.url).href,
  devices: (): { type: 'CPU'; index: number }[] => [{ type: 'CPU', index: 0 }],
} as const;

const REGISTRY = Symbol.for('lockstep.deviceProviders');

/** Offers the devices to strategies of this process, unless the program has decided about this name already. */
export function registerDevices(): void {
  const shared = globalThis as { [REGISTRY]?: Map<string, unknown> };
  shared[REGISTRY] ??= new Map();
  const registry = shared[REGISTRY];
  if (!registry.has(deviceProvider.name)) registry.set(deviceProvider.name, deviceProvider);
}
