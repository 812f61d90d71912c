/** For tests: a replica that tells one of everything; and one whose model.fit writes for TensorBoard. */
import type { ReplicaContext } from '@lockstep/distribute';

export default function replica({ summary, replicaIdInSyncGroup }: ReplicaContext, step: number): boolean {
  summary.scalar('loss', 0.5 + replicaIdInSyncGroup, step);
  summary.text('note', `replica ${replicaIdInSyncGroup}`, step);
  summary.histogram('values', [1, 2, 2, Number.NaN], step);
  summary.image('picture', [0, 255, 7, 9], [2, 2, 1], step);
  return summary.isWanted;
}
