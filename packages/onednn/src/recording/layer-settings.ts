/**
 * What TensorFlow.js reads anew in every call of a layer: attributes (a dropout's rate, a stride, an activation), those of the
 * regularizers, cells and layers inside, the methods themselves. A recorded step has them as they were, so it holds for as long
 * as they are the same.
 *
 * No list of attributes is kept, which would be wrong for the next kind of layer: every layer that is called while a step is
 * recorded says so ({@link watchLayers}), and all that it holds is compared, value by value, before each replay.
 */
import { Tensor } from '@tensorflow/tfjs-core';
import { layers, regularizers, SymbolicTensor } from '@tensorflow/tfjs-layers';

type Members = Record<string, unknown>;

/** Read by TensorFlow.js whether a layer has its own or its class's, or none yet. */
const READ = ['call', 'apply', 'computeMask', 'calculateLosses', 'activityRegularizer'] as const;

/**
 * The graph, which grows when a layer is used in another model; how a model is being trained; what a call leaves behind; what
 * matters when weights are made. No call's result depends on these.
 */
const NOT_READ = new Set(
  `inboundNodes outboundNodes layersByDepth nodesByDepth containerNodes internalContainerRefs inputLayersNodeIndices
  inputLayersTensorIndices outputLayersNodeIndices outputLayersTensorIndices _refCount _addedWeightNames initialWeights
  fastWeightInitDuringBuild inputSpec stateSpec id name originalName optimizer_ isOptimizerOwned history isTraining stopTraining_
  trainFunction testFunction predictFunction dropoutMask recurrentDropoutMask states_ keptStates`
    .trim()
    .split(/\s+/),
);
/** Of an array, which may be a vocabulary, so many entries are compared. */
const LONGEST = 64;

/** See the file's head. */
export class LayerSettings {
  readonly #owners: Members[] = [];
  readonly #keys: string[] = [];
  readonly #values: unknown[] = [];
  readonly #seen = new Set<object>();

  /** @param roots layers, regularizers, or arrays of whatever is to stay what it is. */
  constructor(roots: Iterable<object>) {
    for (const root of roots) this.#visit(root);
    this.#seen.clear();
  }

  /** Whether all is as it was when this was made. */
  get areSame(): boolean {
    const [owners, keys, values] = [this.#owners, this.#keys, this.#values];
    for (let i = 0; i < owners.length; i++) {
      if (!Object.is((owners[i] as Members)[keys[i] as string], values[i])) return false;
    }
    return true;
  }

  #visit(object: object): void {
    if (this.#seen.has(object)) return;
    this.#seen.add(object);
    const members = object as Members;
    if (Array.isArray(object)) {
      this.#note(members, 'length');
      for (let i = 0; i < Math.min(object.length, LONGEST); i++) this.#note(members, `${i}`);
      return;
    }
    for (const key of Object.keys(object)) if (isRead(key)) this.#note(members, key);
    if (isPart(object)) for (const key of READ) if (!Object.hasOwn(object, key)) this.#note(members, key);
  }

  #note(owner: Members, key: string): void {
    const value = owner[key];
    this.#owners.push(owner);
    this.#keys.push(key);
    this.#values.push(value);
    if (typeof value === 'object' && value !== null && isWatched(value)) this.#visit(value);
  }
}

function isRead(key: string): boolean {
  return !NOT_READ.has(key) && !key.startsWith('DEFAULT_') && !key.endsWith('Initializer');
}

/** Layers, activations, regularizers and their like. */
function isPart(value: object): boolean {
  return typeof (value as { getClassName?: unknown }).getClassName === 'function';
}

/** Whether to look into it. Data is not looked into: a program knows which variables it reads. */
function isWatched(value: object): boolean {
  if (value instanceof Tensor || value instanceof SymbolicTensor) return false;
  const prototype = Object.getPrototypeOf(value);
  const isPlain = prototype === Object.prototype || prototype === null;
  // A layer's variable: the tensor in it, its constraint, and whether it is trained.
  return Array.isArray(value) || isPlain || isPart(value) || 'trainable_' in value;
}

const PATCHED = Symbol.for('lockstep.onednn.layerSettings');

/** Lets layers and regularizers tell the recorder that they are used, once per thread. */
export function watchLayers(): void {
  tellOfUse(layers.Layer.prototype);
  tellOfUse(Object.getPrototypeOf(regularizers.l2()));
}

/** Puts another `apply` in the prototype's place, which does what it did. */
function tellOfUse(target: object): void {
  const prototype = target as { apply(...args: unknown[]): unknown } & Record<symbol, boolean>;
  if (Object.hasOwn(prototype, PATCHED)) return;
  Object.defineProperty(prototype, PATCHED, { value: true });
  const { apply } = prototype;
  prototype.apply = function (...args) {
    usedByStep(this);
    return apply.apply(this, args);
  };
}

/** Who was used since somebody began to listen; null while nobody does. */
let used: Set<object> | null = null;

/** Says that a step that is being recorded holds only for as long as the members of `object` stay what they are. */
export function usedByStep(object: object): void {
  used?.add(object);
}

/** Runs `step`. @returns the settings, as they are afterwards, of all that it used. */
export function settingsUsedBy(step: () => void): LayerSettings {
  const before = used;
  used = new Set();
  try {
    step();
    return new LayerSettings(used);
  } finally {
    used = before;
  }
}
