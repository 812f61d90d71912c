/** Clusters: who takes part, and how the processes are started. */
export { checkAgreement, type Facts } from './agreement.js';
export {
  ClusterError,
  type ClusterSpec,
  collectiveLeader,
  idInCluster,
  isChief,
  type Task,
  tasksByRank,
  validateClusterSpec,
  workerCount,
} from './cluster-spec.js';
export { environmentNumber } from './environment-number.js';
export {
  type Host,
  KubernetesClusterResolver,
  type KubernetesOptions,
  type Pod,
  parseHostfile,
  readMpiJobHosts,
} from './kubernetes.js';
export { type LaunchedProcess, launchedProcess } from './mpi-environment.js';
export { type MpirunPlan, mpirunCommand, parseHosts, shellQuote } from './mpirun-command.js';
export { type Cluster, NotLaunchedError, NUM_PS_VARIABLE, resolveCluster } from './resolve-cluster.js';
export { SlurmClusterResolver, type SlurmOptions } from './slurm.js';
export { readTfConfig, TFConfigClusterResolver, type TfConfig, type TfConfigOverrides } from './tf-config.js';
