/**
 * Sharding: each replica's part of a data set, with the same number of steps on every replica, always.
 *
 * Unequal steps would leave one replica waiting for gradients that never come. What cannot be dealt out evenly is
 * therefore dropped (as upstream's `drop_remainder`), at most replicas − 1 elements; batching comes after sharding.
 */
import * as tf from '@tensorflow/tfjs-core';

/** A tf.data-like data set: what `LayersModel.fitDataset` needs. */
export interface DatasetLike<T> {
  /** Elements, where known. */
  readonly size?: number | null;
  iterator(): Promise<AsyncIterator<T> | { next(): Promise<IteratorResult<T>> }>;
}

/**
 * What `shard` divides: tensors and arrays (typed ones too) along their first axis, records of those member by member,
 * iterables, async iterables, and {@link DatasetLike}s. The type cannot say more, because an interface is no record.
 */
export type Shardable = object;

/** A list of tensors of one shape is taken for a model's inputs when it is no longer than this, and for examples when it is. */
const MOST_INPUTS = 8;

/** What sharding needs to know of the replicas. */
export interface ShardContext {
  readonly replica: number;
  readonly replicas: number;
  /** Ordered values of all replicas. */
  gather(value: number): number[];
}

/**
 * This replica's part: elements replica, replica + replicas, replica + 2·replicas, … as tf.data's `shard` deals them.
 *
 * Arrays, typed arrays and tensors come back as the same kind, ⌊n ÷ replicas⌋ long (the tensor is new, the caller disposes
 * it). Iterables, async iterables and tf.data data sets come back as the same kind, too; every replica reads the whole
 * stream and keeps its elements, and all stop together when the shortest ends.
 *
 * @throws Error if replicas hold data of different lengths, or if fewer elements than replicas are there.
 */
export function shard<T extends Shardable>(data: T, context: ShardContext): T {
  if (data instanceof tf.Tensor) return shardTensor(data, context) as tf.Tensor as T;
  if (data instanceof DataView)
    throw new TypeError('shard() cannot divide a DataView.\nhelp: a typed array has elements.');
  if (Array.isArray(data)) checkNoTuple(data);
  if (Array.isArray(data) || ArrayBuffer.isView(data)) return shardArray(data as never, context) as never;
  if (typeof data !== 'object' || data === null) throw new TypeError(`shard() cannot divide a ${typeof data}.`);
  if (typeof (data as DatasetLike<unknown>).iterator === 'function') {
    return shardDataset(data as DatasetLike<unknown>, context) as never;
  }
  if (Symbol.asyncIterator in data) {
    return shardAsync(data as AsyncIterable<unknown>, context) as never;
  }
  if (Symbol.iterator in data) {
    return shardIterable(data as Iterable<unknown>, context) as never;
  }
  const members = Object.entries(data as Record<string, Shardable>);
  if (members.length === 0) throw new TypeError('shard() was given an empty record.');
  const lengths = new Set(members.map(([name, member]) => lengthOf(name, member)));
  if (lengths.size > 1) {
    const found = members.map(([name, member]) => `${name} ${lengthOf(name, member)}`).join(', ');
    throw new Error(`Members of a data set must have the same number of elements; got ${found}.`);
  }
  return Object.fromEntries(members.map(([name, member]) => [name, shard(member, context)])) as never;
}

function lengthOf(name: string, member: unknown): number {
  if (member instanceof tf.Tensor && member.rank > 0) return member.shape[0] as number;
  if (Array.isArray(member) || (ArrayBuffer.isView(member) && !(member instanceof DataView))) {
    return (member as unknown as ArrayLike<unknown>).length;
  }
  const found =
    member instanceof tf.Tensor ? 'a scalar' : member === null ? 'null' : `a value of type ${typeof member}`;
  throw new TypeError(`Members of a record that is sharded must be tensors or arrays; '${name}' is ${found}.`);
}

/**
 * `[images, labels]` is a list of two elements here, and would be dealt out as one: images for one replica, labels for the other.
 * A list of few tensors that have the same length, longer than the list, is taken for such a tuple.
 */
function checkNoTuple(list: readonly unknown[]): void {
  const lengths = list.map((one) => {
    if (one instanceof tf.Tensor) return one.shape[0] ?? 0;
    return ArrayBuffer.isView(one) && 'length' in one ? (one.length as number) : 0;
  });
  const [length = 0] = lengths;
  if (list.length < 2 || list.length >= length || lengths.some((other) => other !== length)) return;
  const shapes = list.map((one) => (one instanceof tf.Tensor ? JSON.stringify(one.shape) : `${length}`));
  if (new Set(shapes).size === 1 && list.length > MOST_INPUTS) return;
  throw new TypeError(
    `shard() was given a list of ${list.length} tensors or arrays of ${length} elements each, and deals out the elements of a list: a whole ` +
      'tensor to each replica.\nhelp: for images and labels that belong together, context.shard({ images, labels }); for a list ' +
      'whose elements are tensors, context.shard(list.values()).',
  );
}

/** Elements for each replica; checked to be the same everywhere. */
function commonLength(length: number, context: ShardContext): number {
  const lengths = context.gather(length);
  if (lengths.some((other) => other !== lengths[0])) {
    const found = lengths.map((other, replica) => `replica ${replica} has ${other}`).join(', ');
    throw new Error(
      `Replicas hold data sets of different lengths: ${found}.\nhelp: give every replica the whole data set; shard() deals it out.`,
    );
  }
  const each = Math.floor(length / context.replicas);
  if (each === 0) {
    throw new Error(`A data set of ${length} elements cannot be divided among ${context.replicas} replicas.`);
  }
  return each;
}

function shardTensor(tensor: tf.Tensor, context: ShardContext): tf.Tensor {
  const [length = 0, ...rest] = tensor.shape;
  const each = commonLength(length, context);
  const { replica, replicas } = context;
  return tf.tidy(() => {
    const zeros = rest.map(() => 0);
    const complete = tf.slice(tensor, [0, ...zeros], [each * replicas, ...rest]);
    const dealt = tf.reshape(complete, [each, replicas, ...rest]);
    return tf.reshape(tf.slice(dealt, [0, replica, ...zeros], [each, 1, ...rest]), [each, ...rest]);
  });
}

function shardArray<T extends unknown[] | Float32Array>(array: T, context: ShardContext): T {
  const each = commonLength(array.length, context);
  const { replica, replicas } = context;
  return array.filter((_: unknown, i: number) => i % replicas === replica && i < each * replicas) as T;
}

function* shardIterable<T>(source: Iterable<T>, context: ShardContext): Generator<T> {
  const iterator = source[Symbol.iterator]();
  try {
    for (;;) {
      let mine: IteratorResult<T> | null = null;
      let complete = true;
      for (let i = 0; i < context.replicas && complete; i++) {
        const result = iterator.next();
        if (result.done) complete = false;
        else if (i === context.replica) mine = result;
        else disposeElement(result.value);
      }
      if (!agree(complete, context)) {
        if (mine && !mine.done) disposeElement(mine.value);
        return;
      }
      yield (mine as IteratorYieldResult<T>).value;
    }
  } finally {
    iterator.return?.();
  }
}

async function* shardAsyncIterator<T>(
  iterator: { next(): Promise<IteratorResult<T>> },
  context: ShardContext,
): AsyncGenerator<T> {
  for (;;) {
    let mine: IteratorResult<T> | null = null;
    let complete = true;
    for (let i = 0; i < context.replicas && complete; i++) {
      const result = await iterator.next();
      if (result.done) complete = false;
      else if (i === context.replica) mine = result;
      else disposeElement(result.value);
    }
    if (!agree(complete, context)) {
      if (mine && !mine.done) disposeElement(mine.value);
      return;
    }
    yield (mine as IteratorYieldResult<T>).value;
  }
}

async function* shardAsync<T>(source: AsyncIterable<T>, context: ShardContext): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  try {
    yield* shardAsyncIterator(iterator, context);
  } finally {
    await iterator.return?.();
  }
}

function shardDataset<T>(dataset: DatasetLike<T>, context: ShardContext): DatasetLike<T> {
  const size = dataset.size ?? null;
  const own = {
    size: size === null ? null : Math.floor(size / context.replicas),
    iterator: async () => {
      const iterator = await dataset.iterator();
      const mine = shardAsyncIterator(iterator as never, context);
      // tf.data's `batch`, `map`, … ask the iterator for the same.
      return withMethods(iterator, 'columnMajorBatch', { next: () => mine.next(), summary: () => 'sharded' });
    },
  };
  return withMethods(dataset, 'batch', own) as DatasetLike<T>;
}

/**
 * `members` with the chained operations of `original`'s class, which are made of them: tf.data's are methods of one abstract class,
 * and that package is the user's, not this one's. Where there is no such method, `members` alone.
 * @param method A method by which the class is told.
 */
function withMethods<Members extends object>(original: object, method: string, members: Members): Members {
  let prototype: object | null = Object.getPrototypeOf(original);
  while (prototype !== null && !Object.hasOwn(prototype, method)) prototype = Object.getPrototypeOf(prototype);
  return prototype === null ? members : Object.assign(Object.create(prototype) as object, members);
}

/** True if every replica has an element; streams may end at different places, steps may not. */
function agree(hasElement: boolean, context: ShardContext): boolean {
  return context.gather(hasElement ? 1 : 0).every((has) => has === 1);
}

/** Elements that belong to other replicas hold tensors that nobody else will free here. */
function disposeElement(element: unknown): void {
  if (typeof element === 'object' && element !== null) tf.dispose(element as tf.TensorContainer);
}
