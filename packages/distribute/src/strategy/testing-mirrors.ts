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

  /** What no step takes: each is refused where it is handed over, nobody waits, and the weights stay as they were. */
  refusedSteps: (context) => {
    const w = tf.variable(tf.ones([2, 1]));
    const trainer = context.trainer([w], { optimizer: { kind: 'sgd' } });
    const loss = (x: tf.Tensor) => tf.mean(tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D)) as tf.Scalar;
    const input = (values: unknown, shape: unknown) => [{ values, shape }];
    const full = new Float32Array(8).fill(1);
    const good = input(full, [4, 2]);
    const vector = () => tf.sum(w, 1);
    const tries: [unknown, unknown, unknown][] = [
      [loss, undefined, good],
      [loss, Number.NaN, good],
      [loss, '0.1', good],
      [loss, tf.scalar(0.1), good],
      [loss, -1, good],
      [loss, Number.POSITIVE_INFINITY, good],
      [loss, 0.1, input(full.subarray(0, 2), [4, 2])],
      [loss, 0.1, input(full, [2, 2])],
      [loss, 0.1, input([...full], [4, 2])],
      [loss, 0.1, input(Float64Array.from(full), [4, 2])],
      [loss, 0.1, input(full, 8)],
      [loss, 0.1, input(full, [4, 2.5])],
      [loss, 0.1, [tf.ones([4, 2])]],
      [loss, 0.1, full],
      [null, 0.1, good],
      [vector, 0.1, undefined],
      [async () => tf.scalar(1), 0.1, undefined],
      [() => 3, 0.1, undefined],
      [() => tf.sum(tf.cast(w, 'int32')), 0.1, undefined],
    ];
    const messages = tries.map(([...args]) => {
      try {
        trainer.step(...(args as Parameters<typeof trainer.step>));
        return 'taken';
      } catch (error) {
        return (error as Error).message.split('\n')[0];
      }
    });
    trainer.step(loss, 0, [{ values: full, shape: [4, 2] }]);
    return { messages, weights: [...w.dataSync()] };
  },
};

/** What `refusedSteps` says, in order. */
export const REFUSED_STEPS = [
  'The learning rate must be a number, got undefined.',
  'The learning rate must be a finite number that is not negative, got NaN.',
  "The learning rate must be a number, got '0.1'.",
  'The learning rate must be a number, got a float32 tensor of shape [].',
  'The learning rate must be a finite number that is not negative, got -1.',
  'The learning rate must be a finite number that is not negative, got Infinity.',
  'Input 0 of step() has 2 values, and its shape [4,2] holds 8.',
  'Input 0 of step() has 8 values, and its shape [2,2] holds 4.',
  'Input 0 of step() must have values in a Float32Array or an Int32Array, got the list [1,1,1,1,1,1,1,1].',
  'Input 0 of step() must have values in a Float32Array or an Int32Array, got a Float64Array.',
  'The shape of input 0 of step() must be a list of whole numbers, got 8.',
  'The shape of input 0 of step() must be a list of whole numbers, got the list [4,2.5].',
  'Input 0 of step() must have values in a Float32Array or an Int32Array, got a float32 tensor of shape [4,2].',
  'The inputs of step() must be a list, got a Float32Array.',
  'step() takes a function that computes the loss, got null.',
  'The loss must be a scalar tensor of float32, got a float32 tensor of shape [2].',
  'The loss must be a scalar tensor, got a promise.',
  'The loss must be a scalar tensor of float32, got 3.',
  'The loss must be a scalar tensor of float32, got an int32 tensor of shape [].',
];

/** Entry point of the replicas. */
export default async function run(context: ReplicaContext, args: Record<string, unknown>): Promise<unknown> {
  tf.engine();
  return await (SCENES[args.scene as string] as Scene)(context, args);
}
