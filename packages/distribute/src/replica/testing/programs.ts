/**
 * For tests: replica functions of programs that users bring, chosen by `args.what`. Loaded as a module of its own by every replica; not
 * part of the package.
 */
import { parentPort } from 'node:worker_threads';
import * as tf from '@tensorflow/tfjs-core';
import { MirroredStrategy } from '../../strategy/mirrored-strategy.js';
import type { ReplicaContext } from '../replica-context.js';

const nap = (ms: number): unknown => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

/** Prints from replica 1, then ends in some way. */
function print(how: string): void {
  console.log('first line');
  console.error('second line');
  process.stdout.write('third ');
  process.stdout.write(new Uint8Array(Buffer.from('line\n')));
  process.stdout.write('666f75727468206c696e650a', 'hex');
  if (how === 'hang') for (;;);
  if (how === 'memory') {
    const all: unknown[] = [];
    for (;;) all.push(new Array(1e5).fill({}));
  }
  if (how === 'exit') process.exit(1);
  if (how === 'throw') throw new Error('thrown');
}

const scenes: Record<string, (context: ReplicaContext, how: string) => unknown> = {
  print(context, how) {
    if (context.replicaIdInSyncGroup === 1) print(how);
    context.communicator.barrier();
  },
  /** A loop that never returns to its thread's event loop. */
  loop(context) {
    for (let step = 0; step < 5; step++) {
      console.log(`step ${step} of ${context.replicaIdInSyncGroup}`);
      context.report(step);
      nap(50);
    }
  },
  lines(context, how) {
    for (let i = 1; i <= Number(how); i++) console.log(`replica ${context.replicaIdInSyncGroup} line ${i}`);
  },
  never: () => new Promise(() => {}),
  tensor: () => ({ a: [tf.scalar(1)] }),
  report(context) {
    context.report(new Map([['loss', tf.variable(tf.scalar(1))]]));
  },
  cause() {
    const inner = new TypeError('the disk said no', { cause: 'EIO' });
    throw new Error('the batch could not be read', { cause: inner });
  },
  aggregate: () => Promise.any([Promise.reject(new Error('first')), Promise.reject(new RangeError('second'))]),
  /** Starts itself, once it runs. */
  own: () => new MirroredStrategy({ devices: ['cpu:0'], log() {} }).run(import.meta.url, { what: 'lines', how: '0' }),
  /** Starts another module: allowed. */
  other: () =>
    new MirroredStrategy({ devices: ['cpu:0'], log() {} }).run(
      'data:text/javascript,export default (context) => context.numReplicasInSync',
    ),
};

export default function train(context: ReplicaContext, { what, how }: { what: string; how: string }): unknown {
  if (!parentPort) throw new Error('not in a thread');
  return (scenes[what] as (typeof scenes)[string])(context, how);
}
