/**
 * oneDNN as a provider of devices for `@lockstep/distribute`, by shape alone: the two packages do not import each other.
 */

/** Logical CPU devices, as many as are asked for; each replica's thread loads `backendModule`. */
export const deviceProvider = {
  name: 'onednn',
  /** TensorFlow.js' plain `cpu` has 1. */
  priority: 10,
  backendModule: new URL('./device.js', import.meta.url).href,
  devices: (): { type: 'CPU'; index: number }[] => [{ type: 'CPU', index: 0 }],
} as const;
