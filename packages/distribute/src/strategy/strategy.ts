/**
 * Strategy: which devices train together, and how their gradients become one.
 *
 * It knows replicas and devices, no models and no flags. Running is the same for all: one thread per device, the default
 * export of a module with a ReplicaContext. Strategies over several processes implement the same interface.
 */
import type { AllReduceAlgorithm } from '../cross-device-ops/cross-device-ops.js';
import type { DeviceDescription } from '../devices/device.js';
import type { RunOptions } from '../replica/run-replicas.js';

/** tf.distribute.Strategy, for TypeScript modules. */
export interface Strategy {
  /** Class name, for messages and logs. */
  readonly name: string;
  /** Replicas whose gradients are averaged in one step. */
  readonly numReplicasInSync: number;
  /** Devices of this process, one replica each. */
  readonly devices: readonly DeviceDescription[];
  /** Whether all workers train in step; false where several train on without each other (parameter servers). */
  readonly isInStep: boolean;
  /** Whether this process trains, or holds variables for those that do. */
  readonly role: 'worker' | 'server';
  /** How the replicas of this process reduce, where one can be told: the algorithm's name. */
  readonly allReduceAlgorithm?: AllReduceAlgorithm;
  /** What reduces gradients, in words: 'ShardedAllReduce(num_packs=2)'. Null where nothing is reduced. */
  readonly crossDeviceOpsDescription: string | null;
  /**
   * Runs the default export of `module`, `async (context: ReplicaContext, args) => result`, on every replica.
   *
   * @param module URL of an ES module. Closures cannot cross threads, so what runs is a module.
   * @param args Anything that `structuredClone` takes; SharedArrayBuffers are shared.
   * @returns results in replica order.
   * @throws ReplicaError naming the replica that failed and why; no thread is left running.
   */
  run<Result = unknown>(module: URL | string, args?: unknown, options?: RunOptions): Promise<Result[]>;
  /** Strategies over several processes: whether this one writes checkpoints, summaries and exports. Absent: it does. */
  readonly isChief?: boolean;
  /** Strategies over several processes: the chief's value, on all of them. Collective. */
  fromChief?<T>(value: T): T;
  /** Strategies over several processes: leaves the job together with the others, after the last run. */
  close?(): void;
}

/** Where a strategy tells what it chose. */
export interface StrategyLog {
  /** Receives one line. Default: standard error. */
  readonly log?: (line: string) => void;
}
