/**
 * Any TensorFlow.js optimizer, made distributed: between computing and applying gradients they are averaged over replicas.
 *
 * `applyGradients` is the one door through which `minimize`, `model.fit` and hand-written loops go, so replacing it leaves
 * learning rates, slots and saving the optimizer's own. An optimizer that the flat path knows is applied there (flat-update.ts), any
 * other by itself, on every replica. Every replica applies the same bits and stays a mirror. That is seen to:
 * variables are mirrored when they are first seen, gradients are matched by variable, and with each step's exchange travels a
 * fingerprint of what must be the same on all replicas: which variables have gradients, the optimizer's settings, and weights that
 * were changed by anybody else. A difference is an error that says who has what, before any weight changes.
 */
import * as tf from '@tensorflow/tfjs-core';
import { CommunicatorError } from '../communicator/communicator.js';
import { stringifyValues } from '../communicator/plain-values.js';
import { describe } from '../describe.js';
import { describeMissing, finish, hashText, mix, whoHasWhat } from '../mirror/fingerprint.js';
import { registryHash } from '../mirror/mirror.js';
import { CHECK_STEPS, type MirroredVariables } from '../mirror/mirrored-variables.js';
import { activeTrace } from '../trace/trace.js';
import { clipGradients } from './clip-gradients.js';
import { FlatUpdate, type FlatUpdateParts, Path, type UpdateItem } from './flat-update.js';
import { GradientSums } from './gradient-sums.js';
import { checkOptimizerOptions, followSchedule, type OptimizerOptions } from './optimizer-options.js';

/** What this file needs of a replica. */
export interface GradientReducer {
  readonly mirrored: MirroredVariables;
  /** Mean over replicas of each tensor; new tensors. The lists have been compared. Collective. */
  mean(tensors: readonly tf.Tensor[]): tf.Tensor[];
  /** Replica 0's values of each tensor; new tensors. Collective. */
  first(tensors: readonly tf.Tensor[]): tf.Tensor[];
  /** All replicas' numbers, replica 0's first. Collective. */
  exchange(numbers: Float64Array): Float64Array;
  /** All replicas' values, replica 0's first. Collective. */
  gather<T>(value: T): T[];
  /** Counts the step. */
  beginStep(): void;
  /** What the flat path needs. */
  readonly flat: FlatUpdateParts;
  /** Says a line once for all replicas. */
  warn(line: string): void;
}

type Gradients = Parameters<tf.Optimizer['applyGradients']>[0];

/** In the order in which they came; null for a variable that the loss does not reach. */
type NamedGradients = ReadonlyMap<string, tf.Tensor | null>;

/** Known to backends that record steps of `model.fit`. */
const TRACEABLE = Symbol.for('lockstep.traceable');

/** The fingerprint's numbers. */
const [NEW, GRADIENTS, SETTINGS, WEIGHTS, STATE, PATH, LENGTH] = [0, 1, 2, 3, 4, 5, 6];

const distributed = new WeakSet<tf.Optimizer>();

/** Whether {@link distributeOptimizer} has it. */
export function isDistributed(optimizer: tf.Optimizer): boolean {
  return distributed.has(optimizer);
}

/**
 * Replaces the optimizer's `applyGradients` (and `computeGradients`, to mirror first) and returns the same optimizer. Collective:
 * variables that exist are mirrored.
 * @throws TypeError for what is no optimizer; Error if it is distributed already: gradients would be averaged twice.
 */
export function distributeOptimizer<Optimizer extends tf.Optimizer>(
  optimizer: Optimizer,
  options: OptimizerOptions,
  reducer: GradientReducer,
): Optimizer {
  checkOptimizer(optimizer);
  checkOptimizerOptions(optimizer, options);
  if (distributed.has(optimizer)) {
    throw new Error('This optimizer is distributed already.\nhelp: call context.optimizer() once per optimizer.');
  }
  distributed.add(optimizer);
  const step = new DistributedStep(optimizer, options, reducer);
  // A loop that calls tf.variableGrads() itself computes its first gradients with these values.
  reducer.mirrored.mirrorOthers();
  const compute = optimizer.computeGradients.bind(optimizer);
  const mirrorThenCompute: typeof compute = (f, varList) => {
    step.mirror(varList);
    return compute(f, varList);
  };
  // A backend that records steps may leave it out in replays: mirroring has been done by then.
  optimizer.computeGradients = Object.assign(mirrorThenCompute, { [TRACEABLE]: true });
  const apply = optimizer.applyGradients.bind(optimizer);
  optimizer.applyGradients = (gradients: Gradients): void => step.apply(gradients, apply);
  return optimizer;
}

/** What happens in each step of one optimizer. */
class DistributedStep {
  readonly #numbers = new Float64Array(LENGTH);
  readonly #sums: GradientSums | null;
  /** Null where the optimizer has an applyGradients of its own, which is to be called. */
  readonly #flat: FlatUpdate | null;
  #steps = 0;
  #hasComputed = false;

  constructor(
    private readonly optimizer: tf.Optimizer,
    private readonly options: OptimizerOptions,
    private readonly reducer: GradientReducer,
  ) {
    const { accumulateSteps = 1, clip } = options;
    this.#sums = accumulateSteps > 1 ? new GradientSums(accumulateSteps) : null;
    this.#flat = Object.hasOwn(optimizer, 'applyGradients') ? null : new FlatUpdate(optimizer, reducer.flat, clip);
  }

  /**
   * Before gradients are computed: whatever is named for the first time is mirrored.
   * @param variables Absent: all trainable ones; later ones may be a replica's own, and are seen when they have a gradient.
   */
  mirror(variables?: readonly tf.Variable[]): void {
    if (!variables && this.#hasComputed) return;
    const { mirrored } = this.reducer;
    const named = variables ?? Object.values(tf.engine().registeredVariables);
    const unseen = mirrored.untrained(named.filter(({ trainable }) => trainable));
    try {
      if (unseen.length > 0) mirrored.train(unseen);
      if (!this.#hasComputed) mirrored.mirrorOthers();
    } catch (error) {
      if (!(error instanceof CommunicatorError) || unseen.length === 0) throw error;
      const names = unseen.slice(0, 3).map(({ name }) => `'${name}'`);
      throw new Error(
        `Here variables ${names.join(', ')}${unseen.length > 3 ? ', …' : ''} are trained for the first time, and not all ` +
          `replicas came to do the same: ${error.message}\nhelp: train the same variables in the same step on every replica.`,
        { cause: error },
      );
    }
    this.#hasComputed = true;
  }

  apply(gradients: Gradients, apply: (gradients: Gradients) => void): void {
    this.reducer.beginStep();
    if (!this.#sums) {
      this.#update(byName(gradients), apply, Array.isArray(gradients));
      return;
    }
    const means = this.#sums.add(byName(gradients));
    if (means === null) return;
    try {
      this.#update(means, apply, Array.isArray(gradients));
    } finally {
      tf.dispose([...means.values()].filter((mean) => mean !== null));
    }
  }

  #update(gradients: NamedGradients, apply: (gradients: Gradients) => void, isList: boolean): void {
    const { reducer } = this;
    const { mirrored } = reducer;
    this.#steps++;
    const names = [...gradients.keys()];
    const items = itemsOf(gradients);
    followSchedule(this.optimizer, this.options);
    checkSettings(this.optimizer);
    const applyBy = (tensors: readonly tf.Tensor[]) =>
      this.#applyBy(apply, isList, names, new Map(items.map(({ name }, i) => [name, tensors[i] as tf.Tensor])));
    if (mirrored.replicas === 1) {
      const begin = performance.now();
      applyBy(items.map(({ tensor }) => tensor));
      activeTrace()?.add('update', 'step', begin);
      return;
    }
    const unseen = mirrored.untrained(items.map(({ variable }) => variable));
    let numbers = this.#exchange(names, items, unseen.length);
    let isOfFirst = false;
    if (anyNot(numbers, NEW, 0)) {
      isOfFirst = this.#mirrorLate(unseen, items);
      numbers = this.#exchange(names, items, 0);
    }
    this.#compare(numbers, names, items);
    const paths = columnOf(numbers, PATH);
    // In the order of their numbers, which is the same everywhere.
    items.sort((a, b) => mirrored.numberOf(a.variable) - mirrored.numberOf(b.variable));
    if (!isOfFirst && areOneWay(paths)) this.#flat?.apply(names, items, paths);
    else {
      const tensors = items.map(({ tensor }) => tensor);
      const begin = performance.now();
      const reduced = isOfFirst ? reducer.first(tensors) : reducer.mean(tensors);
      const summed = performance.now();
      activeTrace()?.add('reduce', 'step', begin, undefined, summed);
      try {
        this.#flat?.settle();
        applyBy(reduced);
        activeTrace()?.add('update', 'step', summed);
      } finally {
        tf.dispose(reduced);
      }
    }
    mirrored.updated(items.map(({ variable }) => variable));
  }

  /** By the optimizer itself. */
  #applyBy(
    apply: (gradients: Gradients) => void,
    isList: boolean,
    names: readonly string[],
    tensorOf: ReadonlyMap<string, tf.Tensor>,
  ): void {
    const { clip } = this.options;
    const clipped = clip ? clipGradients([...tensorOf.values()], clip) : null;
    const finals = clipped ? new Map([...tensorOf.keys()].map((name, i) => [name, clipped[i] as tf.Tensor])) : tensorOf;
    try {
      const list = names.map((name) => ({ name, tensor: finals.get(name) ?? null }));
      apply((isList ? list : Object.fromEntries(list.map(({ name, tensor }) => [name, tensor]))) as never);
    } finally {
      if (clipped) tf.dispose(clipped);
    }
  }

  #exchange(names: readonly string[], items: readonly UpdateItem[], unseen: number): Float64Array {
    const { mirrored } = this.reducer;
    const numbers = this.#numbers;
    numbers[NEW] = unseen;
    // Order does not matter: a sum of mixed numbers.
    let gradients = 0;
    for (const { variable } of items) gradients = (gradients + finish(mix(0, mirrored.numberOf(variable)), 1)) | 0;
    numbers[GRADIENTS] = gradients;
    numbers[SETTINGS] = hashText(settingsOf(this.optimizer));
    numbers[WEIGHTS] = mirrored.hash(this.#steps % CHECK_STEPS === 0 && !this.#flat?.isShared);
    const path = this.#flat?.propose(names, items) ?? Path.own;
    numbers[PATH] = path;
    numbers[STATE] = this.#flat?.stateHash(names, items, path) ?? 0;
    return this.reducer.exchange(numbers);
  }

  /**
   * Gradients came without computeGradients(), of variables that no step has named: they are mirrored now. Where values differed,
   * the other replicas have computed their gradients of weights that have just been replaced by replica 0's: only replica 0's
   * gradients belong to the weights that all have now.
   * @returns whether replica 0's gradients are this step's.
   */
  #mirrorLate(unseen: readonly tf.Variable[], items: readonly UpdateItem[]): boolean {
    const { reducer } = this;
    this.#checkNames(items);
    const different = reducer.mirrored.train(unseen);
    if (different.length === 0) return false;
    reducer.warn(
      `Variable '${different[0]?.name}'${different.length > 1 ? ` and ${different.length - 1} more` : ''} had different values on ` +
        "the replicas when gradients were computed; all have replica 0's now, and this step takes replica 0's gradients.\n" +
        'help: make variables before context.optimizer(), or call context.mirror(variables) before the first gradients.',
    );
    return true;
  }

  #compare(numbers: Float64Array, names: readonly string[], items: readonly UpdateItem[]): void {
    const { reducer } = this;
    const when = `in step ${this.#steps}`;
    if (differs(numbers, SETTINGS)) {
      const settings = reducer.gather(settingsOf(this.optimizer));
      throw new Error(
        `Replicas apply gradients with different settings ${when}: ${whoHasWhat(settings)}.\n` +
          'help: decide from what all replicas know, such as context.averageMetrics(logs); a replica that decides by its own loss ' +
          'is a mirror no longer.',
      );
    }
    if (differs(numbers, GRADIENTS)) {
      this.#checkNames(items);
      throw new Error(
        `Replicas apply gradients of different variables ${when}.\nhelp: the loss must use the same variables on every replica.`,
      );
    }
    // Another value on all alike, a clipped one for instance, has the same fingerprint.
    if (differs(numbers, WEIGHTS)) reducer.mirrored.check(`before the update ${when}`);
    // Where one applies gradients by itself, so do all, and nobody has looked.
    if (!columnOf(numbers, PATH).includes(Path.own) && differs(numbers, STATE))
      this.#flat?.checkState(names, items, `before the update ${when}`);
  }

  /** By numbers where there are some; by names where these mean the same on all replicas. */
  #checkNames(items: readonly UpdateItem[]): void {
    const { mirrored, gather } = this.reducer;
    const own = items.map(({ name, variable }) => ({ name, number: mirrored.numberOf(variable) }));
    const all = gather({ registry: registryHash(), own });
    const isNamed = all.every(({ registry }) => registry === all[0]?.registry);
    const lists = all.map(({ own }) => own.filter(({ number }) => isNamed || number >= 0));
    // A variable with a number is called what the first replica calls it that has it.
    const nameOf = new Map(
      lists
        .flat()
        .reverse()
        .map(({ name, number }) => [number, name]),
    );
    const missing = describeMissing(
      lists.map((list) => list.map(({ name, number }) => (isNamed ? name : (nameOf.get(number) as string)))),
      'a gradient',
    );
    if (missing === null) return;
    throw new Error(
      `Replicas apply gradients of different variables in step ${this.#steps}: ${missing}.\n` +
        'help: the loss must use the same variables on every replica; add tf.mul(0, tf.sum(variable)) for one that a batch does ' +
        'not need.',
    );
  }
}

function differs(numbers: Float64Array, column: number): boolean {
  return anyNot(numbers, column, numbers[column] as number);
}

function anyNot(numbers: Float64Array, column: number, value: number): boolean {
  for (let at = column; at < numbers.length; at += LENGTH) if (numbers[at] !== value) return true;
  return false;
}

function columnOf(numbers: Float64Array, column: number): number[] {
  return Array.from({ length: numbers.length / LENGTH }, (_, i) => numbers[i * LENGTH + column] as number);
}

/** Whether all replicas can take the flat path, and in the same way. */
function areOneWay(paths: readonly number[]): boolean {
  return (
    paths.every((path) => path === Path.layOut) || paths.every((path) => path === Path.ready || path === Path.changed)
  );
}

/** @throws Error for two gradients of one name: the optimizer would apply either. */
function byName(gradients: Gradients): NamedGradients {
  if (!Array.isArray(gradients))
    return new Map(Object.entries(gradients).map(([name, tensor]) => [name, tensor ?? null]));
  const named = new Map<string, tf.Tensor | null>();
  for (const { name, tensor } of gradients) {
    if (named.get(name) && tensor) {
      throw new Error(`applyGradients() was given two gradients for '${name}'.\nhelp: add them up first.`);
    }
    named.set(name, tensor ?? named.get(name) ?? null);
  }
  return named;
}

/** Gradients that are there, with their variables. A variable that the loss does not depend on has none, on any replica. */
function itemsOf(gradients: NamedGradients): UpdateItem[] {
  const { registeredVariables } = tf.engine();
  return [...gradients].flatMap(([name, tensor]) => {
    if (tensor === null) return [];
    const variable = registeredVariables[name];
    if (!variable)
      throw new Error(`applyGradients() was given a gradient for '${name}', and there is no such variable.`);
    if (tensor.dtype !== 'float32' || !tf.util.arraysEqual(tensor.shape, variable.shape)) {
      throw new TypeError(
        `The gradient for '${name}' must be a float32 tensor of shape [${variable.shape}], got ${describe(tensor)}.`,
      );
    }
    return [{ name, variable, tensor }];
  });
}

function checkOptimizer(optimizer: unknown): void {
  const { minimize, computeGradients, applyGradients } = (optimizer ?? {}) as Partial<tf.Optimizer>;
  if ([minimize, computeGradients, applyGradients].every((method) => typeof method === 'function')) return;
  throw new TypeError(
    `context.optimizer() takes an optimizer of TensorFlow.js, got ${describe(optimizer)}.\n` +
      `help: context.optimizer(tf.train.${typeof optimizer === 'string' && optimizer in tf.train ? optimizer : 'adam'}(0.001))`,
  );
}

/** TensorFlow.js takes any learning rate; one that is no number makes every weight NaN. */
function checkSettings(optimizer: tf.Optimizer): void {
  const { learningRate } = optimizer as unknown as { learningRate?: unknown };
  if (!('learningRate' in optimizer) || (typeof learningRate === 'number' && Number.isFinite(learningRate))) return;
  throw new RangeError(
    `The optimizer's learning rate must be a finite number, got ${describe(learningRate)}.\nhelp: tf.train.sgd(0.01)`,
  );
}

/** 'SGD {"learningRate":0.1}': all that an optimizer says of itself. */
function settingsOf(optimizer: tf.Optimizer): string {
  try {
    return `${optimizer.getClassName()} ${stringifyValues(optimizer.getConfig())}`;
  } catch {
    // One of the user's own need not have a configuration.
    return optimizer.constructor.name;
  }
}
