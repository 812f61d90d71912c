/** Sharding on one thread, replica by replica, with the other replicas' answers given; with threads: strategy-cases.ts. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { type DatasetLike, type ShardContext, shard } from './shard.js';

await tf.setBackend('cpu');

/** A replica among equals: the others would say what it says. */
const among = (replicas: number, replica: number): ShardContext => ({
  replica,
  replicas,
  gather: (value) => Array(replicas).fill(value),
});
const everyReplica = <T>(replicas: number, run: (context: ShardContext) => T): T[] =>
  Array.from({ length: replicas }, (_, replica) => run(among(replicas, replica)));
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

describe('shard', () => {
  test('is a fair deal for every length and number of replicas', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 0, max: 50 }), (replicas, extra) => {
        const list = range(replicas + extra);
        const parts = everyReplica(replicas, (context) => shard(list, context));
        const each = Math.floor(list.length / replicas);
        for (const part of parts) assert.equal(part.length, each);
        // Together, in turns, they are the beginning of the list.
        const together = range(each).flatMap((i) => parts.map((part) => part[i]));
        assert.deepEqual(together, list.slice(0, each * replicas));
        const lazily = everyReplica(replicas, (context) => [...shard(new Set(list), context)]);
        assert.deepEqual(lazily, parts);
      }),
    );
  });

  test('tensors of any rank and dtype are divided along their first axis', () => {
    const tensor = tf.tensor3d(range(30), [5, 2, 3], 'int32');
    const [first, second] = everyReplica(2, (context) => shard(tensor, context));
    assert.deepEqual([first?.shape, first?.dtype], [[2, 2, 3], 'int32']);
    assert.deepEqual([...(first as tf.Tensor).dataSync()], [...range(6), ...range(6).map((i) => i + 12)]);
    assert.deepEqual(
      [...(second as tf.Tensor).dataSync()],
      [...range(6).map((i) => i + 6), ...range(6).map((i) => i + 18)],
    );
  });

  test('typed arrays stay typed, records go member by member', () => {
    const data = { x: Float32Array.of(1, 2, 3, 4, 5), y: ['a', 'b', 'c', 'd', 'e'] };
    const parts = everyReplica(2, (context) => shard(data, context));
    assert.deepEqual(parts, [
      { x: Float32Array.of(1, 3), y: ['a', 'c'] },
      { x: Float32Array.of(2, 4), y: ['b', 'd'] },
    ]);
    assert.throws(() => shard({ x: [1, 2, 3], y: [1, 2] }, among(1, 0)), /same number of elements; got x 3, y 2/);
  });

  test('tf.data-like data sets keep their size and free what is not theirs', async () => {
    const dataset: DatasetLike<{ xs: tf.Tensor }> = {
      size: 5,
      iterator: async () => {
        let i = 0;
        return {
          next: async (): Promise<IteratorResult<{ xs: tf.Tensor }>> =>
            i < 5 ? { done: false, value: { xs: tf.scalar(i++) } } : { done: true, value: undefined },
        };
      },
    };
    const before = tf.memory().numTensors;
    const part = shard(dataset, among(2, 1));
    assert.equal(part.size, 2);
    const iterator = await part.iterator();
    const values: number[] = [];
    for (;;) {
      const { done, value } = await iterator.next();
      if (done) break;
      values.push(value.xs.dataSync()[0] as number);
      tf.dispose(value);
    }
    assert.deepEqual(values, [1, 3]);
    assert.equal(tf.memory().numTensors, before);
  });

  test('data sets of tf.data stay data sets of tf.data: batch, map and take go on from the part', async () => {
    const { array } = await import('@tensorflow/tfjs-data');
    const parts = everyReplica(2, (context) => shard(array([0, 1, 2, 3, 4, 5, 6]), context));
    const found: unknown[] = [];
    for (const part of parts) {
      assert.equal(part.size, 3);
      const batches: number[][] = [];
      await part
        .map((value) => (value as number) * 10)
        .batch(2)
        .forEachAsync((batch) => batches.push([...(batch as tf.Tensor).dataSync()]));
      found.push(batches, await part.take(1).toArray());
    }
    assert.deepEqual(found, [[[0, 20], [40]], [0], [[10, 30], [50]], [1]]);
  });

  test('a tuple of tensors is not dealt out as a list', () => {
    const [images, labels] = [tf.zeros([6, 2, 2]), tf.zeros([6])];
    for (const tuple of [
      [images, labels],
      [labels, labels],
      [new Float32Array(6), new Int32Array(6)],
    ]) {
      assert.throws(
        () => shard(tuple, among(2, 0)),
        /a list of 2 tensors or arrays of 6 elements.*\nhelp: .*\{ images, labels \}/s,
      );
    }
    // Lists whose elements are tensors: of different lengths, many of one shape, or at least as many as each is long.
    for (const list of [
      [tf.zeros([2]), tf.zeros([3])],
      Array.from({ length: 9 }, () => tf.zeros([28, 28])),
      [tf.zeros([2]), tf.zeros([2])],
    ]) {
      assert.equal(shard(list, among(2, 0)).length, Math.floor(list.length / 2));
    }
  });

  test('a stream ends for all as soon as it ends for one', async () => {
    // Another replica runs out after three elements.
    let asked = 0;
    const context: ShardContext = {
      replica: 0,
      replicas: 2,
      gather: (mine) => [mine, asked++ < 3 ? 1 : 0],
    };
    async function* stream() {
      yield* range(100);
    }
    const elements: number[] = [];
    for await (const element of shard(stream(), context)) elements.push(element);
    assert.deepEqual(elements, [0, 2, 4]);
  });

  test('the source is closed when the consumer stops', () => {
    let isClosed = false;
    function* source() {
      try {
        yield* range(100);
      } finally {
        isClosed = true;
      }
    }
    for (const element of shard(source(), among(2, 0))) if (element > 5) break;
    assert.ok(isClosed);
  });

  test('what cannot be divided says why', () => {
    assert.throws(() => shard([1, 2], among(3, 0)), /2 elements cannot be divided among 3 replicas/);
    const unequal: ShardContext = { replica: 0, replicas: 2, gather: (value) => [value, value + 1] };
    assert.throws(() => shard([1, 2, 3], unequal), /different lengths: replica 0 has 3, replica 1 has 4\.\nhelp:/);
    assert.throws(() => shard(new DataView(new ArrayBuffer(8)), among(1, 0)), /cannot divide a DataView/);
    assert.throws(() => shard({ a: 'text' }, among(1, 0)), /'a' is a value of type string/);
    assert.throws(() => shard({ x: tf.scalar(1) }, among(1, 0)), /'x' is a scalar/);
    assert.throws(() => shard({}, among(1, 0)), /an empty record/);
    assert.throws(() => shard(3 as never, among(1, 0)), /cannot divide a number/);
  });
});
