/**
 * For tests: programs whose replicas must stay mirrors, and what users do that would part them. Run on threads and under mpirun.
 * A scene returns plain data; its expectations stand in the tests.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { ReplicaContext } from '../replica/replica-context.js';

type Scene = (context: ReplicaContext, args: Record<string, unknown>) => unknown;

const SCENES: Record<string, Scene> = {
  /** The last replica's loss is not a number: everybody must hear so. */
  merge: (context) => {
    const isLast = context.replicaIdInSyncGroup === context.numReplicasInSync - 1;
    const sent = [
      isLast ? Number.NaN : 0.5,
      Number.NEGATIVE_INFINITY,
      -0,
      undefined,
      new Float32Array([1.5, Number.NaN]),
    ];
    return context.merge({ sent }, (values) => values);
  },
};

/** Entry point of the replicas. */
export default async function run(context: ReplicaContext, args: Record<string, unknown>): Promise<unknown> {
  tf.engine();
  return await (SCENES[args.scene as string] as Scene)(context, args);
}
