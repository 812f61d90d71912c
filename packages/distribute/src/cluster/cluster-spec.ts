/**
 * Who is in a cluster: jobs, their tasks, and what each task is for. tf.train.ClusterSpec and multi_worker_util's rules.
 *
 * It resolves nothing (the resolvers do) and moves nothing. Error texts are upstream's.
 */

/** Addresses ('host:port') by job: `chief`, `worker`, `ps`, `evaluator`; in task order. */
export type ClusterSpec = Readonly<Record<string, readonly string[]>>;

/** One process's part in a cluster. */
export interface Task {
  readonly type: string;
  readonly index: number;
}

const TASK_TYPES = ['chief', 'worker', 'evaluator', 'ps'];

/** Something is wrong with a cluster's description. */
export class ClusterError extends Error {
  override readonly name = 'ClusterError';
}

/** @throws ClusterError with upstream's texts if the spec, or the task in it, is impossible. */
export function validateClusterSpec(spec: ClusterSpec, { type, index }: Task): void {
  if (!TASK_TYPES.includes(type)) {
    throw new ClusterError(
      `Unrecognized task_type: ${repr(type)}, valid task types are: "chief", "worker", "evaluator" and "ps".`,
    );
  }
  if (!(type in spec)) throw new ClusterError(`\`task_type\` ${repr(type)} not found in cluster_spec.`);
  if (tasksOf(spec, 'chief').length > 1) throw new ClusterError("There must be at most one 'chief' job.");
  if (tasksOf(spec, 'evaluator').length > 1) throw new ClusterError("There must be at most one 'evaluator' job.");
  if (index >= tasksOf(spec, type).length) {
    throw new ClusterError(`The \`task_id\` ${index} exceeds the maximum id of ${type}.`);
  }
}

/** Whether the task writes checkpoints and summaries: the chief, worker 0 without one, and the evaluator for itself. */
export function isChief(spec: ClusterSpec, task: Task): boolean {
  validateClusterSpec(spec, task);
  if (task.type === 'chief' || task.type === 'evaluator') return true;
  return tasksOf(spec, 'chief').length === 0 && task.type === 'worker' && task.index === 0;
}

/** Tasks that train together with this one: chief and workers; for the evaluator, evaluators. */
export function workerCount(spec: ClusterSpec, task: Task): number {
  validateClusterSpec(spec, task);
  if (task.type === 'evaluator') return tasksOf(spec, 'evaluator').length;
  if (task.type !== 'chief' && task.type !== 'worker') {
    throw new ClusterError(`Unexpected \`task_type\` ${repr(task.type)}`);
  }
  return tasksOf(spec, 'chief').length + tasksOf(spec, 'worker').length;
}

/** Position among the tasks that train together: chief 0, then the workers. */
export function idInCluster(spec: ClusterSpec, task: Task): number {
  validateClusterSpec(spec, task);
  if (task.type === 'chief') return 0;
  if (task.type === 'worker') return task.index + tasksOf(spec, 'chief').length;
  if (task.type === 'evaluator') return task.index;
  throw new ClusterError(`There is no id for task_type ${repr(task.type)}`);
}

/** The task that leads collectives, as TensorFlow writes it; '' for no cluster and for the evaluator. */
export function collectiveLeader(spec: ClusterSpec, task: Task): string {
  if (Object.keys(spec).length === 0) return '';
  validateClusterSpec(spec, task);
  if (task.type === 'evaluator') return '';
  return tasksOf(spec, 'chief').length > 0 ? '/job:chief/replica:0/task:0' : '/job:worker/replica:0/task:0';
}

/** Addresses of a job; none if the cluster has no such job. */
export function tasksOf(spec: ClusterSpec, job: string): readonly string[] {
  return spec[job] ?? [];
}

/** Order in which the launcher's ranks are dealt to tasks: chief, workers, parameter servers, evaluator. */
export const RANK_ORDER = ['chief', 'worker', 'ps', 'evaluator'] as const;

/** All tasks in the order of ranks. */
export function tasksByRank(spec: ClusterSpec): Task[] {
  return RANK_ORDER.flatMap((type) => tasksOf(spec, type).map((_, index) => ({ type, index })));
}

/** Python's repr of a string, as upstream's messages have it. */
export function repr(text: string): string {
  return text.includes("'") && !text.includes('"') ? `"${text}"` : `'${text.replaceAll("'", "\\'")}'`;
}
