/**
 * For tests: replica functions that try a trainer's options. Gradients are data: the loss is Σ data·w, so what a step must come to is
 * arithmetic. Numbers travel as JSON, so one that is not finite is a word.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { ReplicaContext } from '../replica/replica-context.js';
import type { Trainer, TrainerOptions } from '../trainer/trainer.js';

/** Weights at the beginning; the fourth is a variable of its own, which `missing` leaves out of the loss. */
export const START = [1, -2, 3, 0.5] as const;

/** The gradient of a call, of a replica. */
export function gradientAt(call: number, replica: number): number[] {
  return [4 * (call + 1), 3 - 8 * replica, call - replica, 2 * replica + 1];
}

export interface State {
  readonly weights: number[];
  readonly slots: Record<string, number[]>;
  readonly scalars: Record<string, number>;
}

export interface TrainerTask {
  readonly options: Omit<TrainerOptions, 'weightDecay'> & { readonly decay?: number };
  /** Calls of step(). */
  readonly calls: number;
  /** Number of the first call. */
  readonly from?: number;
  /** Of each update; then it is a schedule. Else 0.5. */
  readonly rates?: readonly number[];
  /** The call in which the last replica's loss is no number. */
  readonly spoiled?: number;
  /** The batch is given to step(), so that a backend may record the step. */
  readonly recorded?: boolean;
  /** The loss leaves out the last variable. */
  readonly missing?: boolean;
  /** What another run left. */
  readonly state?: State;
  /** Replica 1 computes its first loss only when replica 0 has made all calls but the last: one word, 1 then. */
  readonly order?: SharedArrayBuffer;
}

export interface TrainerOutcome {
  /** After each call. */
  readonly weights: readonly number[][];
  readonly losses: readonly string[];
  readonly flags: readonly string[];
  readonly state: State;
  /** Gradients of the first call by variable, as they were shown. */
  readonly watched: Record<string, number[]>;
  /** Lines on standard error about variables that the loss does not reach. */
  readonly said: number;
}

/** Longest wait for replica 0. */
const WAIT_MS = 20_000;

function stateOf(trainer: Trainer): State {
  const slots = Object.entries(trainer.slots).map(([name, values]) => [name, [...values]]);
  return { weights: [...trainer.weights], slots: Object.fromEntries(slots), scalars: { ...trainer.scalars } };
}

/** Entry point of the replicas. */
export default async function train(context: ReplicaContext, task: TrainerTask): Promise<TrainerOutcome> {
  const { options, calls, from = 0, rates, spoiled, missing = false, state, order, recorded = false } = task;
  const { replicaIdInSyncGroup: own, numReplicasInSync: replicas } = context;
  const { decay, ...rest } = options;
  const vector = tf.variable(tf.tensor1d(START.slice(0, 3)), true, 'vector');
  const scalar = tf.variable(tf.scalar(START[3]), true, 'scalar');
  let said = 0;
  const write = process.stderr.write.bind(process.stderr);
  process.stderr.write = ((text: string, ...more: never[]) => {
    if (String(text).includes('The loss does not reach')) said++;
    return write(text, ...more);
  }) as typeof write;
  const trainer = context.trainer([vector, scalar], {
    ...rest,
    ...(decay !== undefined && { weightDecay: { rate: decay, applies: ({ name }) => name === 'vector' } }),
  });
  if (state) {
    if (context.sharedMemory.rank === 0) {
      trainer.weights.set(state.weights);
      for (const [name, values] of Object.entries(state.slots)) trainer.slots[name]?.set(values);
    }
    trainer.restore(state.scalars);
    trainer.push();
    context.communicator.barrier();
  }
  const ofInputs = (factors: tf.Tensor, last: tf.Tensor) =>
    tf.add(tf.sum(tf.mul(vector, factors)), tf.mul(scalar, last)) as tf.Scalar;
  const watched: Record<string, number[]> = {};
  trainer.watchGradients(({ name }, gradient) => {
    watched[name] = [...gradient];
  });
  const weights: number[][] = [];
  const losses: string[] = [];
  const flags: string[] = [];
  for (let call = from; call < from + calls; call++) {
    const [x, y, z, last] = gradientAt(call, own) as [number, number, number, number];
    const isSpoiled = call === spoiled && own === replicas - 1;
    const rate = rates ? (update: number) => rates[update] as number : 0.5;
    const factors = tf.tensor1d([x, y, z]);
    const inputs = [
      { values: Float32Array.of(x, y, z), shape: [3] },
      { values: Float32Array.of(last), shape: [] },
    ];
    const result = await (recorded
      ? trainer.step(ofInputs, rate, inputs)
      : trainer.step(() => {
          if (
            order &&
            own === 1 &&
            call === from &&
            Atomics.wait(new Int32Array(order), 0, 0, WAIT_MS) === 'timed-out'
          ) {
            throw new Error('Replica 0 waited for replica 1 while gradients add up.');
          }
          const part = tf.sum(tf.mul(vector, factors)) as tf.Scalar;
          const all = missing ? part : tf.add(part, tf.mul(scalar, last));
          return (isSpoiled ? tf.add(all, Number.NaN) : all) as tf.Scalar;
        }, rate));
    factors.dispose();
    trainer.watchGradients(null);
    losses.push(String(result.loss));
    if (order) {
      if (own === 0 && call === from + calls - 2) {
        Atomics.store(new Int32Array(order), 0, 1);
        Atomics.notify(new Int32Array(order), 0);
      }
      continue;
    }
    // With parameter servers weights here are old until they are asked for.
    trainer.pull();
    weights.push([...trainer.weights]);
    // Before another replica's next step changes them.
    context.communicator.barrier();
    const { finite, skipped, updated } = result;
    flags.push(
      Object.entries({ finite, skipped, updated })
        .flatMap(([name, is]) => (is ? [name] : []))
        .join(' '),
    );
  }
  return { weights, losses, flags, state: stateOf(trainer), watched, said };
}
