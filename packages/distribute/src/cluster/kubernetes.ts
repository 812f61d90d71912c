/**
 * Clusters on Kubernetes: an MPIJob's hostfile, and upstream's KubernetesClusterResolver over a pod list.
 *
 * The MPI operator writes the hostfile and sets OMPI_MCA_orte_default_hostfile, so that mpirun in the launcher pod needs no
 * host list. Lockstep brings no Kubernetes client: whoever wants the pod list hands one in.
 */
import { existsSync, readFileSync } from 'node:fs';
import { ClusterError, type ClusterSpec, type Task } from './cluster-spec.js';

/** A machine and how many processes it takes. */
export interface Host {
  readonly name: string;
  readonly slots: number;
}

/** Where the MPI operator puts the hostfile. */
const DEFAULT_HOSTFILE = '/etc/mpi/hostfile';

/**
 * Lines of Open MPI's hostfile: 'a slots=2', 'b:2' or 'c'; '#' begins a comment.
 * @throws ClusterError naming the line that is none of these.
 */
export function parseHostfile(text: string): Host[] {
  const hosts: Host[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    const content = line.replace(/#.*/, '').trim();
    if (content === '') continue;
    const match = /^(\w[\w.-]*)(?::(\d+))?(?:\s+slots\s*=\s*(\d+))?(?:\s+max[_-]slots\s*=\s*\d+)?$/.exec(content);
    if (!match) {
      throw new ClusterError(
        `Line ${i + 1} of the hostfile is '${content}'.\nhelp: lines are 'host', 'host:2' or 'host slots=2'.`,
      );
    }
    hosts.push({ name: match[1] as string, slots: Number(match[2] ?? match[3] ?? 1) });
  }
  return hosts;
}

/** The MPIJob's hosts, or null outside one. */
export function readMpiJobHosts(environment: NodeJS.ProcessEnv = process.env): Host[] | null {
  const path = environment.OMPI_MCA_orte_default_hostfile ?? environment.PRTE_MCA_prte_default_hostfile;
  if (path && existsSync(path)) return parseHostfile(readFileSync(path, 'utf8'));
  return existsSync(DEFAULT_HOSTFILE) ? parseHostfile(readFileSync(DEFAULT_HOSTFILE, 'utf8')) : null;
}

/** What is needed of a pod. */
export interface Pod {
  readonly name: string;
  readonly phase: string;
  readonly hostIp: string;
}

export interface KubernetesOptions {
  /** Pods of all namespaces that match a label selector. */
  readonly listPods?: (labelSelector: string) => Promise<readonly Pod[]>;
  /** Job name → label selectors. Default {worker: ['job-name=tensorflow']}. */
  readonly jobToLabelMapping?: Readonly<Record<string, readonly string[]>>;
  /** Default 8470. */
  readonly tfServerPort?: number;
  readonly rpcLayer?: string;
}

/** tf.distribute.cluster_resolver.KubernetesClusterResolver. Asks anew at every call. */
export class KubernetesClusterResolver {
  taskType: string | null = null;
  taskId: number | null = null;
  readonly rpcLayer: string;
  readonly #listPods: (labelSelector: string) => Promise<readonly Pod[]>;

  /** @throws ClusterError without a client. */
  constructor(private readonly options: KubernetesOptions = {}) {
    if (!options.listPods) {
      throw new ClusterError(
        'The Kubernetes client must be given before using the Kubernetes Cluster Resolver.\n' +
          'help: pass listPods, for instance with the npm package @kubernetes/client-node. A Kubeflow MPIJob needs no ' +
          'resolver: its launcher runs mpirun.',
      );
    }
    this.#listPods = options.listPods;
    this.rpcLayer = options.rpcLayer ?? 'grpc';
  }

  /** @throws ClusterError with upstream's text if a pod does not run. */
  async clusterSpec(): Promise<ClusterSpec> {
    const { jobToLabelMapping = { worker: ['job-name=tensorflow'] }, tfServerPort = 8470 } = this.options;
    const spec: Record<string, string[]> = {};
    for (const [job, selectors] of Object.entries(jobToLabelMapping)) {
      const addresses: string[] = [];
      for (const selector of selectors) {
        const pods = [...(await this.#listPods(selector))].sort((left, right) => (left.name < right.name ? -1 : 1));
        for (const { name, phase, hostIp } of pods) {
          if (phase !== 'Running') throw new ClusterError(`Pod "${name}" is not running; phase: "${phase}"`);
          addresses.push(`${hostIp}:${tfServerPort}`);
        }
      }
      spec[job] = addresses;
    }
    return spec;
  }

  async master(task?: Task): Promise<string> {
    const type = task?.type ?? this.taskType;
    const index = task?.index ?? this.taskId;
    if (type === null || index === null) return '';
    const address = (await this.clusterSpec())[type]?.[index];
    if (!address) throw new ClusterError(`There is no task ${index} of type '${type}' in the cluster.`);
    return this.rpcLayer ? `${this.rpcLayer}://${address}` : address;
  }
}
