/**
 * ParameterServerStrategy: variables and optimizer live with `ps` tasks; every worker pulls, computes and pushes at its own
 * pace. Between workers nothing is in step, within a worker its replicas are (upstream: parameter_server_strategy.py, 1.14).
 *
 * A worker that is lost does not stop the others, if the launcher lets them go on (`mpirun --enable-recovery`, as `lockstep
 * launch --ps` says); a lost server, or the chief, ends the job. Without a cluster it is one worker that keeps its variables.
 */

import type { Facts } from '../cluster/agreement.js';
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
import type { ParameterServerArguments, ServerLine } from './parameter-server-replica.js';
import type { ServerReport } from './server.js';

export interface ParameterServerStrategyOptions extends StrategyLog {
  /** Devices of this worker. Default: all GPUs, else 'cpu:0'. */
  readonly devices?: readonly string[];
  /** Default: TF_CONFIG, else the launcher's processes, of which the last LOCKSTEP_NUM_PS are servers. */
  readonly cluster?: Cluster;
  /** Compared over all processes before anything runs: {version, flags, …}; a function is called then. */
  readonly facts?: Facts | (() => Facts);
  readonly mpi?: MpiOptions;
}

/** tf.distribute.experimental.ParameterServerStrategy. */
export class ParameterServerStrategy implements Strategy {
  readonly name = 'ParameterServerStrategy';
  readonly devices: readonly DeviceDescription[];
  readonly cluster: Cluster;
  readonly crossDeviceOpsDescription = null;
  readonly #job: Job;
  readonly #log: (line: string) => void;

  /** @throws Error with upstream's text without `ps` tasks; NotLaunchedError with the command to type. */
  constructor(options: ParameterServerStrategyOptions = {}) {
    this.#log = options.log ?? defaultLog;
    this.cluster = options.cluster ?? resolveCluster();
    const { task, numWorkers, numParameterServers, launched, spec } = this.cluster;
    if (!this.isLocal && numParameterServers === 0) {
      throw new Error(
        'The cluster spec needs to have `ps` jobs.\n' +
          'help: lockstep launch --hosts a:2,b:2 --ps 1 -- … makes the last process a parameter server; so does ' +
          'LOCKSTEP_NUM_PS=1 under mpirun.',
      );
    }
    if (task.type === 'evaluator') {
      throw new Error(
        'ParameterServerStrategy runs chief, worker and ps tasks; this process is an evaluator.\n' +
          'help: leave the evaluator job out; the chief evaluates.',
      );
    }
    if (launched && !this.isServer) {
      // On one machine the servers leave the cores to the workers: they only add.
      const isOneMachine = launched.localSize === launched.size;
      shareCores(isOneMachine ? { ...launched, localSize: Math.min(launched.localSize, numWorkers) } : launched);
    }
    const names = this.isServer ? ['cpu:0'] : (options.devices ?? defaultDevices());
    this.devices = resolveDevices(names.map(canonicalDeviceName));
    const workers = Array.from({ length: numWorkers }, (_, rank) => rank);
    this.#job = new Job({ ...options.mpi, tolerated: workers.slice(1) }, () => ({
      strategy: this.name,
      'parameter servers': numParameterServers,
      ...(typeof options.facts === 'function' ? options.facts() : options.facts),
    }));
    if (this.isChief && !this.isLocal) {
      this.#log(
        `ParameterServerStrategy with cluster_spec = ${JSON.stringify(spec)}, task_type = ${repr(task.type)}, ` +
          `task_id = ${task.index}, num_workers = ${numWorkers}, num_ps = ${numParameterServers}, ` +
          `local_devices = (${names.map(repr).join(', ')})`,
      );
      this.#log(`Replicas compute on ${backendsOf(this.devices)}.`);
      if (numWorkers > 1 && launched?.launcher === 'mpirun' && process.env.OMPI_MCA_orte_enable_recovery !== '1') {
        this.#log(
          'mpirun ends the whole job when one worker is lost; with `mpirun --enable-recovery`, or `lockstep launch --ps`, ' +
            'the others go on.',
        );
      }
    }
  }

  get isInStep(): boolean {
    return this.numWorkers === 1;
  }

  get role(): 'worker' | 'server' {
    return this.isServer ? 'server' : 'worker';
  }

  /** One worker without a cluster: it keeps its variables itself. */
  get isLocal(): boolean {
    return this.cluster.numParameterServers === 0 && this.cluster.numWorkers === 1;
  }

  /** Whether this process holds variables, and trains nothing. */
  get isServer(): boolean {
    return this.cluster.task.type === 'ps';
  }

  get isChief(): boolean {
    return this.cluster.isChief && !this.isServer;
  }

  get numWorkers(): number {
    return this.cluster.numWorkers;
  }

  /** Replicas of one worker: workers are not in step with each other. */
  get numReplicasInSync(): number {
    return this.devices.length;
  }

  /** The chief's value, on all processes. Collective. */
  fromChief<T>(value: T): T {
    return this.isLocal ? value : this.#job.fromChief(value);
  }

  /**
   * Runs `module` on this worker's replicas; on a ps task it serves until the chief has ended the job.
   * @returns results of this worker's replicas; of a ps task one {@link ServerReport}.
   * @throws ReplicaError naming the replica, and the process if one was lost.
   */
  async run<Result = unknown>(module: URL | string, args?: unknown, options: RunOptions = {}): Promise<Result[]> {
    const { devices, url } = prepareRun(this.devices, module, args, options, this.isChief ? this.#log : null);
    const spec = { devices, crossDeviceOps: chooseCrossDeviceOps(devices, 1).toConfig() };
    if (this.isLocal) return (await runReplicas(spec, url, args, options)) as Result[];
    const group = this.#job.join();
    const inner: ParameterServerArguments = {
      role: this.isServer ? 'ps' : 'worker',
      module: url,
      args: this.isServer ? undefined : args,
      group,
      workers: this.cluster.numWorkers,
      servers: this.cluster.numParameterServers,
    };
    // Replicas wait for their leader as long as it waits for servers, and at the end for the other workers.
    const timeoutSeconds = options.timeoutSeconds ?? WAIT_SECONDS;
    try {
      const replica = new URL('./parameter-server-replica.js', import.meta.url).href;
      const results = await runReplicas(spec, replica, inner, {
        ...options,
        timeoutSeconds,
        ...(this.isServer && {
          onReport: (_: number, line: unknown) => this.#log((line as ServerLine).parameterServer),
        }),
      });
      if (this.isServer) this.#log(describeReport(this.cluster.task.index, results[0] as ServerReport));
      return results as Result[];
    } catch (error) {
      this.#job.abort(`failed: ${(error as Error).message.split('\n')[0]}`);
      throw error;
    }
  }

  /** Leaves the job together with the other processes. Without it, the process leaves when it ends. */
  close(): void {
    this.#job.close();
  }
}

/** A worker's replicas wait for their leader while it waits for slower workers, whose own limits apply. */
const WAIT_SECONDS = 7 * 24 * 3600;

function describeReport(index: number, report: ServerReport): string {
  const { elements, updates, updatesOfWorker, mean, max, histogram } = report;
  const shares = histogram.flatMap((count, age) => (count > 0 ? [`${age}: ${count}`] : [])).join(', ');
  return (
    `Parameter server ${index} held ${elements.toLocaleString('en')} elements and made ${updates} updates ` +
    `(${updatesOfWorker.map((count, worker) => `worker ${worker} ${count}`).join(', ')}). ` +
    `Staleness: mean ${mean.toFixed(2)}, largest ${max}${updates > 0 ? ` (updates by age ${shares})` : ''}.`
  );
}
