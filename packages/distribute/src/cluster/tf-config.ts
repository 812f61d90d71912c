/**
 * The cluster that the environment variable TF_CONFIG describes: TFConfigClusterResolver.
 *
 * Kubeflow's TFJob and many scripts set it. A JSON object: `cluster` (job → addresses), `task` ({type, index}), optionally
 * `rpc_layer` and `session_master`. Overrides given to the resolver win over what the variable says.
 */
import { ClusterError, type ClusterSpec, type Task, validateClusterSpec } from './cluster-spec.js';

/** TF_CONFIG, read. */
export interface TfConfig {
  readonly cluster?: ClusterSpec;
  readonly task?: { readonly type?: string; readonly index?: number | string };
  readonly rpc_layer?: string;
  readonly session_master?: string;
  readonly environment?: string;
}

/** The variable's contents; an empty object if it is not set. @throws ClusterError if it is not a JSON object of the form. */
export function readTfConfig(environment: NodeJS.ProcessEnv = process.env): TfConfig {
  const text = environment.TF_CONFIG;
  if (!text) return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ClusterError(`TF_CONFIG is not JSON: ${(error as Error).message}.\n${EXAMPLE}`);
  }
  if (!isRecord(value))
    throw new ClusterError(`TF_CONFIG must be a JSON object, got ${text.slice(0, 80)}.\n${EXAMPLE}`);
  const { cluster, task } = value;
  if (cluster !== undefined) {
    const isSpec = isRecord(cluster) && Object.values(cluster).every(isListOfStrings);
    if (!isSpec) throw new ClusterError(`"cluster" in TF_CONFIG must map job names to lists of host:port.\n${EXAMPLE}`);
  }
  if (task !== undefined && !isRecord(task)) {
    throw new ClusterError(
      `"task" in TF_CONFIG must be an object, got ${JSON.stringify(task).slice(0, 80)}.\n${EXAMPLE}`,
    );
  }
  return value as TfConfig;
}

const EXAMPLE = `help: TF_CONFIG='{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'`;

export interface TfConfigOverrides {
  readonly taskType?: string;
  readonly taskId?: number;
  readonly rpcLayer?: string;
  readonly environment?: string;
}

/** tf.distribute.cluster_resolver.TFConfigClusterResolver. */
export class TFConfigClusterResolver {
  readonly #config: TfConfig;

  constructor(
    private readonly overrides: TfConfigOverrides = {},
    environment: NodeJS.ProcessEnv = process.env,
  ) {
    this.#config = readTfConfig(environment);
  }

  get taskType(): string | null {
    const type = this.overrides.taskType ?? this.#config.task?.type;
    return type === undefined ? null : String(type);
  }

  /** Upstream asks TF_CONFIG whenever only the id was overridden; here an override is an override. */
  get taskId(): number | null {
    const index = this.overrides.taskId ?? this.#config.task?.index;
    if (index === undefined) return null;
    const id = Number(index);
    if (!Number.isInteger(id) || id < 0)
      throw new ClusterError(`The index of the task in TF_CONFIG is '${index}'.\n${EXAMPLE}`);
    return id;
  }

  get rpcLayer(): string | null {
    return this.overrides.rpcLayer ?? this.#config.rpc_layer ?? null;
  }

  get environment(): string {
    return this.overrides.environment ?? this.#config.environment ?? '';
  }

  /** Empty if TF_CONFIG has no cluster. */
  clusterSpec(): ClusterSpec {
    return this.#config.cluster ?? {};
  }

  /** The address to connect to: session_master if set, '' for one task alone, else the task's own address. */
  master(task: Partial<Task> = {}): string {
    if (this.#config.session_master !== undefined) return this.#config.session_master;
    const spec = this.clusterSpec();
    const jobs = Object.values(spec);
    if (jobs.length === 0 || (jobs.length === 1 && jobs[0]?.length === 1)) return '';
    const type = task.type ?? this.taskType ?? '';
    const index = task.index ?? this.taskId ?? -1;
    const address = spec[type]?.[index];
    if (address === undefined) throw new ClusterError(`There is no task ${index} of type '${type}' in the cluster.`);
    return this.rpcLayer ? `${this.rpcLayer}://${address}` : address;
  }

  /** Cluster and task of a process that takes part. @throws ClusterError with upstream's texts if something is missing. */
  member(): { spec: ClusterSpec; task: Task } {
    if (!this.#config.cluster) throw new ClusterError('"cluster" is not found in TF_CONFIG.');
    if (!this.#config.task && this.overrides.taskType === undefined) {
      throw new ClusterError('"task" is not found in TF_CONFIG.');
    }
    const type = this.taskType;
    if (type === null) throw new ClusterError('"task_type" is not found in the `task` part of TF_CONFIG.');
    const spec = this.clusterSpec();
    if (!('chief' in spec) && !('worker' in spec)) {
      throw new ClusterError('You must have `chief` or `worker` jobs in the `cluster_spec`.');
    }
    const task = { type, index: this.taskId ?? 0 };
    validateClusterSpec(spec, task);
    return { spec, task };
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isListOfStrings(value: unknown): boolean {
  return Array.isArray(value) && value.every((element) => typeof element === 'string');
}
