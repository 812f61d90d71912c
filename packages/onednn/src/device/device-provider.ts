/**
 * oneDNN as a provider of devices for `@lockstep/distribute`, by shape alone: the two packages do not import each other.
 */
import { availableParallelism } from 'node:os';

/** Logical CPU devices, as many as there are cores; each replica's thread loads `backendModule`. */
export const deviceProvider = {
  name: 'onednn',
  /** TensorFlow.js' plain `cpu` has 1. */
  priority: 10,
  backendModule: new URL('./device.js', import.meta.url).href,
  devices: (): { type: string; count: number }[] => [{ type: 'CPU', count: availableParallelism() }],
} as const;
