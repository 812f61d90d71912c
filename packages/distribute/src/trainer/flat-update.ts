/**
 * The flat path of `context.optimizer()`: the update of an optimizer that the seam in optimizers/ knows, in the memory that the
 * replicas of a process share. Sum, mean and update are one pass over memory, of which each replica takes its part, where otherwise
 * every replica applies the mean to weights of its own.
 *
 * Variables and slots become views of that memory, and stay TensorFlow.js' own in all that a user can see: they may be assigned,
 * cloned, saved and loaded at any time. So before each update, on every replica:
 * - what is no longer the view that was made (assigned, loaded, updated by another optimizer) is taken over as it is now;
 * - a tensor that has the data of a variable beside it, a clone for instance, gets memory of its own: TensorFlow.js promises that a
 *   tensor never changes. Only a backend that can see to that is taken (HostAccess.detach); on others the optimizer applies the mean by itself.
 *
 * Whether a step goes this way is decided by all replicas alike, from the codes that they propose; memory is taken alike, too.
 */
import * as tf from '@tensorflow/tfjs-core';
import { copyValues, hostAccess } from '../devices/host-access.js';
import { finish, hashNumbers, mix } from '../mirror/fingerprint.js';
import { checkEqual } from '../mirror/mirrored-variables.js';
import type { FlatMemory } from '../simd/flat-memory.js';
import { activeTrace } from '../trace/trace.js';
import { layOut, makeView } from './flat-variables.js';
import { type KnownOptimizer, knownOptimizer, type SlotList, type SlotVariable } from './known-optimizers.js';
import { flatOptimizer } from './optimizers/create.js';
import type { Clip, FlatLayout, Reducer } from './reducer.js';
import { REPORT } from './step-reports.js';

/** What this file needs of a replica. */
export interface FlatUpdateParts {
  readonly memory: FlatMemory;
  /** The replicas of this process. */
  readonly local: { readonly rank: number; readonly size: number; barrier(): void };
  /** Replicas in step. */
  readonly replicas: number;
  makeReducer(layout: FlatLayout): Reducer;
  /** All replicas' values, replica 0's first. Collective. */
  gather<T>(value: T): T[];
}

/** A gradient and whose it is. */
export interface UpdateItem {
  readonly name: string;
  readonly variable: tf.Variable;
  readonly tensor: tf.Tensor;
}

/** What a replica can do in a step, for all to hear. */
export const Path = {
  /** The optimizer applies gradients by itself. */
  own: 0,
  /** The flat memory can be laid out for these variables. */
  layOut: 1,
  /** It is, and variables and slots are views. */
  ready: 2,
  /** It is, and something has to be taken over first. */
  changed: 3,
} as const;

/** A tensor's place in the flat memory, and the data id of the view that was made of it. */
interface View {
  readonly values: Float32Array;
  dataId: object;
}

/** The flat memory of one list of variables. */
interface Plan {
  /** All names that gradients were given for, in TensorFlow.js' order: by their places it keeps slots. */
  readonly names: readonly string[];
  readonly config: string;
  /** In the order of the flat memory. */
  readonly variables: readonly tf.Variable[];
  /** Of each variable: its place in `names`. */
  readonly places: readonly number[];
  readonly weights: readonly View[];
  /** By slot, then by variable. */
  readonly slots: readonly (readonly View[])[];
  readonly gradients: readonly Float32Array[];
  readonly reducer: Reducer;
}

/** Lists of variables that one optimizer lays out in its life: memory is not given back. */
const MAX_PLANS = 3;
/** Another list must have come so often, one after another, before it is laid out. */
const STEADY = 3;
/** Of the 4 GiB of flat memory; the rest is for trainers, and for reducing. */
const MAX_BYTES = 2 ** 31;
/** No data has it, so what has it is no view yet. */
const NONE: object = {};

/** See the file's head. */
export class FlatUpdate {
  readonly #report = new Float64Array(REPORT);
  #plan: Plan | null = null;
  #plans = 0;
  #lastNames: readonly string[] = [];
  #sameNames = 0;
  /** The last update was made here. */
  #isAhead = false;

  constructor(
    private readonly optimizer: tf.Optimizer,
    private readonly parts: FlatUpdateParts,
    private readonly clip: Clip | undefined,
  ) {}

  /** What this replica can do in this step. @param names see {@link Plan.names} */
  propose(names: readonly string[], items: readonly UpdateItem[]): number {
    const known = knownOptimizer(this.optimizer);
    if (known === null || items.length === 0 || !hostAccess().detach) return Path.own;
    const plan = this.#plan;
    const isLaidOut = plan !== null && fits(plan, known, names, items);
    if (isLaidOut && !this.#isChanged(plan, known)) return Path.ready;
    if (!suit(known, names, items)) return Path.own;
    if (isLaidOut) return Path.changed;
    this.#sameNames = areSame(names, this.#lastNames) ? this.#sameNames + 1 : 1;
    this.#lastNames = [...names];
    if (plan && (this.#plans >= MAX_PLANS || this.#sameNames < STEADY)) return Path.own;
    const elements = items.reduce((sum, { tensor }) => sum + tensor.size, 0);
    const arrays = 1 + known.slots.length + this.parts.local.size;
    return this.parts.memory.allocatedBytes + 4 * elements * arrays > MAX_BYTES ? Path.own : Path.layOut;
  }

  /** Whether the replicas of this process have one copy of the weights, which need not be compared. */
  get isShared(): boolean {
    return this.#isAhead && this.parts.local.size === this.parts.replicas;
  }

  /**
   * Fingerprint of the optimizer's state: how many updates it has made, if an update depends on it, and slots that are no views of the
   * flat memory. Where replicas differ, {@link checkState} says who has what.
   */
  stateHash(names: readonly string[], items: readonly UpdateItem[], path: number): number {
    if (path === Path.own) return 0;
    const { slots, counts } = knownOptimizer(this.optimizer) as KnownOptimizer;
    let hash = counts ? mix(0, this.optimizer.iterations) : 0;
    let count = 0;
    if (path !== Path.ready) {
      for (const [s, { list }] of slots.entries()) {
        for (const { name } of items) {
          const slot = list[names.indexOf(name)];
          if (!slot || this.#isView(slot.variable, s)) continue;
          hash = mix(mix(hash, count), hashNumbers(slot.variable.dataSync() as Float32Array));
          count++;
        }
      }
    }
    return finish(hash, count);
  }

  /** Throws unless all replicas' optimizers have the same state, naming the first part that differs. Collective. */
  checkState(names: readonly string[], items: readonly UpdateItem[], when: string): void {
    const { slots, counts } = knownOptimizer(this.optimizer) as KnownOptimizer;
    const updates = { name: 'iterations', values: () => Int32Array.of(this.optimizer.iterations) };
    const own = slots.flatMap(({ list, suffix }) =>
      items.map(({ name, tensor }) => ({
        name: `${name}/${suffix}`,
        values: () =>
          (list[names.indexOf(name)]?.variable.dataSync() as Float32Array | undefined) ?? new Float32Array(tensor.size),
      })),
    );
    checkEqual(counts ? [updates, ...own] : own, this.parts, when);
  }

  /**
   * One update with the mean of all replicas' gradients. Collective.
   * @param items In an order that is the same on all replicas.
   * @param paths What the replicas proposed: all of them to lay out, or all that it is.
   */
  apply(names: readonly string[], items: readonly UpdateItem[], paths: readonly number[]): void {
    const known = knownOptimizer(this.optimizer) as KnownOptimizer;
    if (paths[0] === Path.layOut) this.#plan = this.#layOut(known, names, items);
    const plan = this.#plan as Plan;
    const tensorOf = new Map(items.map(({ variable, tensor }) => [variable, tensor]));
    this.#takeOver(plan, known, paths);
    for (const [i, variable] of plan.variables.entries()) {
      copyValues(tensorOf.get(variable) as tf.Tensor, plan.gradients[i] as Float32Array);
    }
    const { reducer } = plan;
    const begin = performance.now();
    // TensorFlow.js counts, saves and loads it.
    reducer.restore({ updates: this.optimizer.iterations });
    reducer.begin();
    for (const i of plan.variables.keys()) reducer.markReady(i);
    reducer.meet(this.#report);
    const met = performance.now();
    activeTrace()?.add('reduce', 'step', begin, undefined, met);
    reducer.finish({
      learningRate: known.learningRate,
      gradientScale: 1 / this.parts.replicas,
      skipNonFinite: false,
      // As TensorFlow.js does: what is not finite goes into the weights.
      apply: true,
    });
    activeTrace()?.add('update', 'step', met);
    (this.optimizer as unknown as { incrementIterations(): void }).incrementIterations();
    this.#isAhead = true;
  }

  /** The optimizer is about to apply gradients by itself. */
  settle(): void {
    if (this.#isAhead) knownOptimizer(this.optimizer)?.settle?.();
    this.#isAhead = false;
  }

  #isView({ dataId }: tf.Variable, slot: number): boolean {
    return this.#plan?.slots[slot]?.some((view) => view.dataId === dataId) ?? false;
  }

  #isChanged(plan: Plan, { slots }: KnownOptimizer): boolean {
    return (
      plan.variables.some(({ dataId }, i) => dataId !== plan.weights[i]?.dataId) ||
      slots.some(({ list }, s) =>
        plan.places.some((place, i) => list[place]?.variable.dataId !== plan.slots[s]?.[i]?.dataId),
      )
    );
  }

  /** Every thread of the process makes the same allocations in the same order: see FlatMemory. */
  #layOut(known: KnownOptimizer, names: readonly string[], items: readonly UpdateItem[]): Plan {
    const { memory, local } = this.parts;
    const variables = items.map(({ variable }) => variable);
    const segments = layOut(variables);
    const elements = segments.reduce((sum, { length }) => sum + length, 0);
    const cut = (array: Float32Array) => segments.map(({ offset, length }) => array.subarray(offset, offset + length));
    const view = (values: Float32Array): View => ({ values, dataId: NONE });
    const weights = memory.allocate(elements);
    const slots = known.slots.map(() => memory.allocate(elements));
    const gradients = memory.allocateEach(local.size, elements);
    const slotNames = flatOptimizer(known.config).slots;
    this.#plans++;
    return {
      names: [...names],
      config: JSON.stringify(known.config),
      variables,
      places: items.map(({ name }) => names.indexOf(name)),
      weights: cut(weights).map(view),
      slots: slots.map((slot) => cut(slot).map(view)),
      gradients: cut(gradients[local.rank] as Float32Array),
      reducer: this.parts.makeReducer({
        segments,
        weights,
        slots: Object.fromEntries(slotNames.map((name, i) => [name, slots[i] as Float32Array])),
        gradients,
        optimizer: known.config,
        ...(this.clip && { clip: this.clip }),
      }),
    };
  }

  /**
   * Variables and slots are views of the flat memory afterwards, with the values that they have now, and nobody else sees that memory.
   * The replicas have compared those values.
   */
  #takeOver(plan: Plan, { slots }: KnownOptimizer, paths: readonly number[]): void {
    for (const [s, slot] of slots.entries())
      makeMissing(slot, plan.names, plan.slots[s] as readonly View[], plan.places);
    const owners = [
      ...plan.variables.map((variable, i) => ({ variable, view: plan.weights[i] as View })),
      ...slots.flatMap(({ list }, s) =>
        plan.places.map((place, i) => ({
          variable: (list[place] as SlotVariable).variable,
          view: plan.slots[s]?.[i] as View,
        })),
      ),
    ];
    const access = hostAccess();
    const torn = owners.filter(({ variable, view }) => {
      const isView = variable.dataId === view.dataId;
      const isDetached = access.detach?.(view.dataId, isView ? 1 : 0) ?? false;
      return !isView || isDetached;
    });
    // Only then may a replica write what it takes over: others had tensors over that memory.
    if (paths.some((path) => path !== Path.ready)) this.parts.local.barrier();
    for (const { variable, view } of torn) {
      if (this.parts.local.rank === 0) copyValues(variable, view.values);
      makeView(variable, view.values);
      view.dataId = variable.dataId;
    }
  }
}

/** Whether variables, gradients and slots are such as lie in flat memory. */
function suit({ slots }: KnownOptimizer, names: readonly string[], items: readonly UpdateItem[]): boolean {
  if (items.some(({ variable, tensor }) => variable.dtype !== 'float32' || tensor.size === 0 || variable.isDisposed)) {
    return false;
  }
  return slots.every(({ list }) =>
    items.every(({ name, tensor }) => {
      const slot = list[names.indexOf(name)]?.variable;
      return slot === undefined || (!slot.isDisposed && slot.dtype === 'float32' && slot.size === tensor.size);
    }),
  );
}

/** Whether the plan is for this list of gradients. */
function fits(plan: Plan, known: KnownOptimizer, names: readonly string[], items: readonly UpdateItem[]): boolean {
  if (items.length !== plan.variables.length || !areSame(names, plan.names)) return false;
  if (plan.config !== JSON.stringify(known.config)) return false;
  const variables = new Set(plan.variables);
  return items.every(({ variable }) => variables.has(variable));
}

function areSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, i) => name === b[i]);
}

/** TensorFlow.js makes slots in the first update, of variables without a gradient, too. */
function makeMissing(
  { list, suffix }: SlotList,
  names: readonly string[],
  views: readonly View[],
  places: readonly number[],
) {
  for (const [place, name] of names.entries()) {
    if (list[place]) continue;
    const view = views[places.indexOf(place)];
    const like = tf.engine().registeredVariables[name] as tf.Variable;
    const variable = tf.tidy(() =>
      (view ? tf.tensor(view.values, like.shape, 'float32') : tf.zerosLike(like)).variable(false),
    );
    if (view) view.dataId = variable.dataId;
    list[place] = { originalName: `${name}/${suffix}`, variable };
  }
}
