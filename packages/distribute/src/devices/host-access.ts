/**
 * SEAM: HostAccess, how code of this thread reaches the memory of its TensorFlow.js backend. A backend module's default export may hand
 * one over, and so may a backend, as its `hostAccess`; any other backend is read and written with what TensorFlow.js offers, and asked
 * once whether its tensors are the arrays that they are made of.
 *
 * Nobody else asks what a backend can do: trainers, models and programs ask {@link hostAccess}.
 */
import * as tf from '@tensorflow/tfjs-core';
import { describe } from '../describe.js';

/** Element type of activations: f32, bf16 where the device has instructions for it, or bf16 with others in their place. */
export type ActivationType = 'f32' | 'bf16' | 'bf16_emulated';

/** A step that is run at first and replayed later. */
export interface StepProgram {
  run(step: () => void): void;
  dispose(): void;
}

/** See the file's head. */
export interface HostAccess {
  /**
   * A tensor made of a typed array stays a view of it: whoever writes the array has written the tensor. What is read has landed as soon
   * as {@link read} returns, then. False: tensors are copies, in this memory or another.
   */
  readonly aliases: boolean;
  /**
   * Begins to copy a tensor's f32 values to `target`, which is nobody else's until they are there. The tensor may be disposed at once.
   * @param landed Called when they are there, and again in every replay of the step that is running.
   */
  read(tensor: tf.Tensor, target: Float32Array, landed?: () => void): void;
  /** All that is read has landed, and all observers have run. Nothing returned: they have. Rejects if something could not be read. */
  settled(): void | Promise<void>;
  /** New values for a variable, copied: the array may change at once. Needed where `aliases` is false. */
  write(variable: tf.Variable, values: Float32Array): void;
  /** A step that the backend may record. Used where `aliases` is true: a recording finds its batch in arrays. */
  program?(): StepProgram;
  /** Calls `observer` with the tensors' values, now or before {@link settled}, and in every replay; they are valid in the call only. */
  observe?(tensors: readonly tf.Tensor[], observer: (...values: never[]) => void): void;
  /**
   * Before shared memory is written of which data is a view: whoever has that data beside `owners` tensors keeps the values of now. Where
   * `aliases` is true and there is none, `context.optimizer()` gives every replica weights of its own.
   * @param dataId of the view, which may be gone
   * @returns whether somebody had; then the data is a view no longer.
   */
  detach?(dataId: object, owners: number): boolean;
  /** @throws Error for a type that the device does not compute in. */
  setPrecision?(type: ActivationType): void;
}

/** By the backend's own object. */
const accesses = new WeakMap<object, HostAccess>();

/** How the memory of this thread's present backend is reached. */
export function hostAccess(): HostAccess {
  const backend = tf.backend();
  let access = accesses.get(backend);
  if (access === undefined) {
    const { hostAccess: own } = backend as { hostAccess?: unknown };
    access = own === undefined ? plainAccess(aliasesArrays()) : checkAccess(own, `The backend '${tf.getBackend()}'`);
    accesses.set(backend, access);
  }
  return access;
}

/**
 * What a backend module's default export returned is how its backend, which is this thread's now, is reached.
 * @param module for messages
 * @throws TypeError for what is neither nothing nor a HostAccess
 */
export function adoptHostAccess(returned: unknown, module: string): void {
  if (returned === undefined) return;
  accesses.set(tf.backend(), checkAccess(returned, `The backend module ${module}`));
}

function checkAccess(access: unknown, who: string): HostAccess {
  const { aliases, read, settled, write } = (access ?? {}) as Partial<HostAccess>;
  if (typeof aliases === 'boolean' && [read, settled, write].every((method) => typeof method === 'function')) {
    return access as HostAccess;
  }
  throw new TypeError(
    `${who} hands over ${describe(access)} for its HostAccess.\n` +
      'help: an object with aliases, read(), settled() and write(); or nothing, if TensorFlow.js reads and writes its tensors.',
  );
}

/** With what TensorFlow.js offers. @param aliases see {@link HostAccess.aliases} */
export function plainAccess(aliases: boolean): HostAccess {
  return {
    aliases,
    read(tensor, target, landed) {
      target.set(tensor.dataSync() as Float32Array);
      landed?.();
    },
    settled() {},
    write(variable, values) {
      // Of values of its own: a backend may upload them when they are first used.
      const tensor = tf.tensor(values.slice(), variable.shape, 'float32');
      variable.assign(tensor);
      tensor.dispose();
    },
  };
}

/** More elements than a GPU's backend leaves to the CPU. */
const PROBE = 1024;

/** Asks the backend: one that copies may do so when a tensor is made, or when a kernel first reads it. */
function aliasesArrays(): boolean {
  const values = new Float32Array(PROBE);
  const tensor = tf.tensor1d(values);
  const seen = () => {
    const negative = tf.neg(tensor);
    const [value] = negative.dataSync();
    negative.dispose();
    return value === -(values[0] as number) && tensor.dataSync()[0] === values[0];
  };
  try {
    seen();
    values[0] = 1;
    return seen();
  } catch {
    // One that hands out nothing at once keeps it elsewhere.
    return false;
  } finally {
    tensor.dispose();
  }
}

/**
 * Copies a tensor's values now, outside of a trainer's step; in a step that a backend records it is part of the recording.
 * @throws Error naming the way out on a device that hands out no values at once.
 */
export function copyValues(tensor: tf.Tensor, target: Float32Array): void {
  const access = hostAccess();
  if (access.aliases) {
    access.read(tensor, target);
    return;
  }
  target.set(readNow(tensor) as Float32Array);
}

/**
 * A tensor's values, now; the backend's own, not to be written.
 * @throws Error as {@link copyValues}
 */
export function readNow(tensor: tf.Tensor): Float32Array | Int32Array | Uint8Array {
  try {
    return tensor.dataSync() as Float32Array;
  } catch (error) {
    // A backend's own advice is for a program that can follow it.
    const [why] = (error as Error).message.split('\nhelp:');
    throw new Error(
      `The backend '${tf.getBackend()}' hands out no tensor's values at once: ${why}\n` +
        'help: train with context.trainer(), which waits for its gradients; context.optimizer(), context.mirror(), ' +
        'context.averageStatistics() and context.allReduce() cannot wait.',
      { cause: error },
    );
  }
}

/**
 * Calls `observer` with the values of `tensors`, now and whenever a backend replays the step that is running. Values that cannot be had at
 * once, or that nobody has made yet, come before the step is over. They are valid during the call only.
 */
export function observe(tensors: readonly tf.Tensor[], observer: (...values: never[]) => void): void {
  const access = hostAccess();
  if (access.observe) access.observe(tensors, observer);
  else observer(...(tensors.map((tensor) => tensor.dataSync()) as never[]));
}
