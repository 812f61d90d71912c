/** What went wrong on which replica. */

/** How a replica ended a run. */
export type ReplicaFailureKind = 'error' | 'exit' | 'out-of-memory' | 'stalled' | 'out-of-step' | 'start';

/** A run of replicas failed; the message names the replica, the cause and where the others were. */
export class ReplicaError extends Error {
  override readonly name = 'ReplicaError';
  constructor(
    message: string,
    /** Index of the replica that is at fault. */
    readonly replica: number,
    readonly kind: ReplicaFailureKind,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
