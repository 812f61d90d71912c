/**
 * Which variables a replica shares with the others: those that were mirrored, and those that gradients were applied to through the
 * context since. It keeps the invariant "what is trained together is the same everywhere" and finds who breaks it.
 *
 * A variable is mirrored when it is first seen. From then on it has a number that is the same on all replicas, whatever its name,
 * so gradients are matched by variable. Values that changed between two steps without the context (a variable's data is another
 * then) are compared in the next step; all values every {@link CHECK_STEPS} steps, and when somebody is about to save.
 */
import * as tf from '@tensorflow/tfjs-core';
import { finish, hashNumbers, mix, summary, whoHasWhat } from './fingerprint.js';
import {
  compareSignatures,
  copyFromFirst,
  isNumeric,
  type MirrorContext,
  registryHash,
  signatureOf,
  valuesOf,
} from './mirror.js';

/** Steps from one comparison of all weights to the next. */
export const CHECK_STEPS = 10;

/** What a replica knows of a variable that it shares. */
interface Shared {
  /** The same on all replicas. */
  readonly number: number;
  /** Whether it is trained: named in a step, and then mirrored whatever its value was. */
  isTrained: boolean;
  /** Its data after the last update through the context; null before the first one. */
  data: object | null;
}

/** See the file's head. */
export class MirroredVariables {
  readonly #shared = new Map<tf.Variable, Shared>();
  readonly #elsewhere = new WeakSet<tf.Variable>();
  #next = 0;
  #hasBegun = false;

  constructor(private readonly context: MirrorContext) {}

  get replicas(): number {
    return this.context.replicas;
  }

  /** Its number, the same on all replicas; −1 if it has none yet. */
  numberOf(variable: tf.Variable): number {
    return this.#shared.get(variable)?.number ?? -1;
  }

  /** Those of `variables` that no step has named so far. */
  untrained(variables: readonly tf.Variable[]): tf.Variable[] {
    return variables.filter((variable) => !this.#shared.get(variable)?.isTrained && !this.#elsewhere.has(variable));
  }

  /** Somebody else, a trainer, sees to these. */
  leave(variables: readonly tf.Variable[]): void {
    for (const variable of variables) this.#elsewhere.add(variable);
  }

  /**
   * Mirrors variables that a step names for the first time. Collective.
   * @returns those whose values differed, hence whose gradients, if there are any, belong to other weights.
   * @throws Error naming the first variable that is not the same one on all replicas.
   */
  train(variables: readonly tf.Variable[]): tf.Variable[] {
    if (this.replicas > 1) {
      const signature = variables.map((variable) => ({ ...signatureOf(variable), number: this.numberOf(variable) }));
      const all = this.context.gather({ registry: registryHash(), signature });
      const isNamed = all.every(({ registry }) => registry === all[0]?.registry);
      compareSignatures(
        all.map((one) => one.signature),
        isNamed,
      );
    }
    const different = copyFromFirst(variables, this.context);
    for (const variable of variables) this.#share(variable).isTrained = true;
    return different;
  }

  /**
   * Mirrors all other variables that replicas have so far, trainable or not: frozen layers, moving statistics, variables that will be
   * trained. After the first step only those that are new: statistics are each replica's own from then on. Only where all replicas
   * have the same ones; if one has variables of its own, nothing is touched. Collective.
   */
  mirrorOthers(): void {
    if (this.replicas === 1) return;
    const others = this.untrained(Object.values(tf.engine().registeredVariables).filter(isNumeric)).filter(
      (variable) => !this.#hasBegun || !this.#shared.has(variable),
    );
    const lists = this.context.gather(JSON.stringify(others.map(signatureOf)));
    if (lists.some((list) => list !== lists[0])) return;
    copyFromFirst(others, this.context);
    for (const variable of others) this.#share(variable);
  }

  /** After an update through the context. */
  updated(variables: readonly tf.Variable[]): void {
    this.#hasBegun = true;
    for (const variable of variables) this.#share(variable).data = variable.dataId;
  }

  /** Whether gradients were applied to it through the context, or a trainer has it: the same on all replicas, then. */
  isTrainedTogether(variable: tf.Variable): boolean {
    return this.#elsewhere.has(variable) || (this.#shared.get(variable)?.data ?? null) !== null;
  }

  /**
   * Fingerprint of the values that somebody else has changed since the last update, or of all: equal on replicas that are mirrors.
   * 0 if there are none.
   */
  hash(all: boolean): number {
    let hash = 0;
    let count = 0;
    for (const [variable, { number, data }] of this.#shared) {
      if (variable.isDisposed) this.#shared.delete(variable);
      else if (data !== null && (all || variable.dataId !== data)) {
        hash = mix(mix(hash, number), hashNumbers(valuesOf(variable)));
        count++;
      }
    }
    return count === 0 ? 0 : finish(hash, count);
  }

  /**
   * Throws if a variable that was updated through the context is not the same everywhere, naming the first one and who has what.
   * Collective.
   */
  check(when: string): void {
    if (this.replicas === 1) return;
    const updated = [...this.#shared].filter(([variable, { data }]) => data !== null && !variable.isDisposed);
    updated.sort(([, a], [, b]) => a.number - b.number);
    checkEqual(
      updated.map(([variable]) => ({ name: variable.name, values: () => valuesOf(variable) })),
      this.context,
      when,
    );
  }

  #share(variable: tf.Variable): Shared {
    let shared = this.#shared.get(variable);
    if (!shared) {
      shared = { number: this.#next++, isTrained: false, data: null };
      this.#shared.set(variable, shared);
    }
    return shared;
  }
}

/** Values that must be the same everywhere. */
export interface Named {
  readonly name: string;
  values(): ReturnType<typeof valuesOf>;
}

/** Throws if one of them is not, naming the first and who has what. Collective. @param noun Who holds one copy. */
export function checkEqual(
  variables: readonly Named[],
  { gather }: Pick<MirrorContext, 'gather'>,
  when: string,
  noun = 'replica',
): void {
  const lists = gather(variables.map(({ values }) => hashNumbers(values())));
  const count = Math.max(...lists.map((list) => list.length));
  const first = Array.from({ length: count }, (_, i) => i).find((i) => lists.some((list) => list[i] !== lists[0]?.[i]));
  if (first === undefined) return;
  const named = variables[first];
  const values = gather(named ? summary(named.values()) : 'not there');
  throw new Error(
    `Variable '${named?.name ?? first}' is not the same on all ${noun}s ${when}: ${whoHasWhat(values, noun)}.\n` +
      'help: change weights on all alike, or on replica 0 and then context.mirror(model); apply gradients through ' +
      'context.optimizer() or context.trainer() only.',
  );
}
