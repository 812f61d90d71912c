/**
 * MultiWorkerMirroredStrategy: one process per worker, one replica per device of each, gradients averaged over all of them
 * every step.
 *
 * Within a process replicas share memory; between processes their leaders talk through Open MPI, pack by pack. mpirun (or
 * srun, or an MPIJob) starts the processes; a process that was started alone although the cluster has more gets the command
 * to type. Initial values are replica 0's, everywhere, after models have been compared.
 */

import type { Facts } from '../cluster/agreement.js';
import type { Task } from '../cluster/cluster-spec.js';
import { repr } from '../cluster/cluster-spec.js';
import { shareCores } from '../cluster/core-share.js';
import { Job } from '../cluster/job.js';
import { type Cluster, resolveCluster } from '../cluster/resolve-cluster.js';
import { canonicalDeviceName, type DeviceDescription, defaultDevices, resolveDevices } from '../devices/device.js';
import { defaultLog } from '../log.js';
import type { MpiOptions } from '../mpi/mpi-group.js';
import { type RunOptions, runReplicas } from '../replica/run-replicas.js';
import { backendsOf } from '../strategy/backend-remark.js';
import { chooseCrossDeviceOps } from '../strategy/cross-device-choice.js';
import { prepareRun } from '../strategy/prepare-run.js';
import type { Strategy, StrategyLog } from '../strategy/strategy.js';
import type { MultiWorkerArguments } from './multi-worker-replica.js';

/** tf.distribute.experimental.CollectiveCommunication. */
export type CollectiveCommunicationName = 'AUTO' | 'RING' | 'NCCL';

export interface MultiWorkerMirroredStrategyOptions extends StrategyLog {
  /** Devices of this worker; the same number on every worker. Default: all GPUs, else 'cpu:0'. */
  readonly devices?: readonly string[];
  /** AUTO sums in rank order; RING forces the ring; NCCL needs NVIDIA GPUs. Default AUTO. */
  readonly communication?: CollectiveCommunicationName;
  /**
   * Packs that gradients are cut into; each starts its journey when it is full, while backward goes on. Default: packs of about
   * 8 MB, and shorter ones for the variables whose gradients come last; a model of up to 12 MB is one pack. 'auto': after some steps that
   * or so many, whatever is fastest by the model of step-model/ with the gradients and the network of this run.
   */
  readonly numPacks?: number | 'auto';
  /** 'bf16' halves what travels between workers; sums are taken in float32 all the same. Default 'f32'. */
  readonly gradientDtype?: 'f32' | 'bf16';
  /** Default: TF_CONFIG, else the launcher's processes. */
  readonly cluster?: Cluster;
  /** Compared over all workers before anything runs: {version, flags, …}; a function is called then. */
  readonly facts?: Facts | (() => Facts);
  readonly mpi?: MpiOptions;
}

/** tf.distribute.experimental.MultiWorkerMirroredStrategy. */
export class MultiWorkerMirroredStrategy implements Strategy {
  readonly name = 'MultiWorkerMirroredStrategy';
  readonly isInStep = true;
  readonly role = 'worker';
  readonly devices: readonly DeviceDescription[];
  readonly cluster: Cluster;
  readonly #options: Required<Pick<MultiWorkerMirroredStrategyOptions, 'communication' | 'gradientDtype'>> & {
    readonly numPacks: number | null | 'auto';
  };
  readonly #job: Job;
  readonly #log: (line: string) => void;

  /** @throws NotLaunchedError with the command to type; RangeError for NCCL without NVIDIA GPUs. */
  constructor(options: MultiWorkerMirroredStrategyOptions = {}) {
    const { communication = 'AUTO', gradientDtype = 'f32' } = options;
    const numPacks = options.numPacks ?? null;
    if (!['AUTO', 'RING', 'NCCL'].includes(communication)) {
      throw new RangeError(`communication must be AUTO, RING or NCCL, got '${communication}'.`);
    }
    if (typeof numPacks === 'number' && (!Number.isInteger(numPacks) || numPacks < 1)) {
      throw new RangeError(`numPacks must be a positive integer or 'auto', got ${numPacks}.`);
    }
    if (gradientDtype !== 'f32' && gradientDtype !== 'bf16') {
      throw new RangeError(`gradientDtype must be 'f32' or 'bf16', got '${gradientDtype}'.`);
    }
    this.#options = { communication, numPacks, gradientDtype };
    this.#job = new Job(options.mpi, () => ({
      strategy: this.crossDeviceOpsDescription,
      'replicas per worker': this.devices.length,
      ...(typeof options.facts === 'function' ? options.facts() : options.facts),
    }));
    this.cluster = options.cluster ?? resolveCluster();
    const { task, numWorkers, numParameterServers, launched } = this.cluster;
    if (numParameterServers > 0 || (task.type !== 'worker' && task.type !== 'chief')) {
      throw new RangeError(
        `MultiWorkerMirroredStrategy runs chief and worker tasks; this cluster has ${numParameterServers} ps tasks and this ` +
          `process is ${repr(task.type)}.\nhelp: leave the ps and evaluator jobs out, or use ParameterServerStrategy.`,
      );
    }
    if (launched) shareCores(launched);
    const names = options.devices ?? defaultDevices();
    this.devices = resolveDevices(names.map(canonicalDeviceName));
    if (communication === 'NCCL' && this.devices.some(({ type }) => type !== 'GPU')) {
      throw new RangeError(
        `communication NCCL needs NVIDIA GPUs, and this worker has ${names.join(', ')}.\n` +
          'help: --all_reduce_alg=ring, or leave it out.',
      );
    }
    this.#log = options.log ?? defaultLog;
    if (this.isChief) {
      this.#log(this.#describe(names, numWorkers, task));
      this.#log(`Replicas compute on ${backendsOf(this.devices)}.`);
    }
  }

  /** Chief and workers of the cluster. */
  get numWorkers(): number {
    return this.cluster.numWorkers;
  }

  get numReplicasInSync(): number {
    return this.devices.length * this.numWorkers;
  }

  /** Whether this process writes checkpoints, summaries and exports. */
  get isChief(): boolean {
    return this.cluster.isChief;
  }

  get crossDeviceOpsDescription(): string {
    const { communication, numPacks, gradientDtype } = this.#options;
    return `CollectiveAllReduce(${communication}, num_packs=${numPacks ?? 'by size'}, gradient_dtype=${gradientDtype})`;
  }

  /**
   * Runs `module` on this worker's replicas, together with all other workers'.
   * @returns results of this worker's replicas.
   * @throws ReplicaError naming the replica, and the worker if one was lost.
   */
  async run<Result = unknown>(module: URL | string, args?: unknown, options: RunOptions = {}): Promise<Result[]> {
    const { devices, url } = prepareRun(this.devices, module, args, options, this.isChief ? this.#log : null);
    const { numPacks, communication, gradientDtype } = this.#options;
    const spec = {
      devices,
      crossDeviceOps: chooseCrossDeviceOps(devices, typeof numPacks === 'number' ? numPacks : 1).toConfig(),
    };
    if (this.numWorkers === 1) return (await runReplicas(spec, url, args, options)) as Result[];
    const group = this.#job.join();
    const inner: MultiWorkerArguments = {
      module: url,
      args,
      group,
      numPacks,
      wire: gradientDtype,
      algorithm: communication === 'RING' ? 'ring' : 'auto',
    };
    // Replicas wait for their leader as long as it waits for other workers, and a little longer.
    const timeoutSeconds = options.timeoutSeconds ?? group.timeoutMs / 1000 + 60;
    try {
      const replica = new URL('./multi-worker-replica.js', import.meta.url).href;
      return (await runReplicas(spec, replica, inner, { ...options, timeoutSeconds })) as Result[];
    } catch (error) {
      // The other workers would wait for this one.
      this.#job.abort(`failed: ${(error as Error).message.split('\n')[0]}`);
      throw error;
    }
  }

  /** The chief's value, on all workers: of what is drawn, a seed for instance. Collective. */
  fromChief<T>(value: T): T {
    return this.numWorkers === 1 ? value : this.#job.fromChief(value);
  }

  /** Leaves the job together with the other workers. Without it, the process leaves when it ends. */
  close(): void {
    this.#job.close();
  }

  /** Upstream's log line. */
  #describe(names: readonly string[], numWorkers: number, task: Task): string {
    const devices = `(${names.map(repr).join(', ')})`;
    if (numWorkers === 1) return `CollectiveAllReduceStrategy with local_devices = ${devices}`;
    return (
      `Multi-worker CollectiveAllReduceStrategy with cluster_spec = ${JSON.stringify(this.cluster.spec)}, ` +
      `task_type = ${repr(task.type)}, task_id = ${task.index}, num_workers = ${numWorkers}, local_devices = ${devices}, ` +
      `communication = ${this.#options.communication}`
    );
  }
}
