/**
 * `tf.train.adam()` and its like with one kernel for each variable, where TensorFlow.js runs four to fifteen.
 *
 * The optimizers' classes get another `applyGradients`; their state (slots, names, iterations) stays where TensorFlow.js
 * keeps it, so saving, loading and other backends work as before: whenever the current backend has no such kernel, or a
 * variable is not f32, the original runs, on the same state.
 */
import {
  AdagradOptimizer,
  AdamOptimizer,
  backend as currentBackend,
  engine,
  fill,
  getBackend,
  getKernel,
  MomentumOptimizer,
  mul,
  type NamedTensorMap,
  RMSPropOptimizer,
  SGDOptimizer,
  type Tensor,
  tidy,
  type Variable,
  zerosLike,
} from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';

type Gradients = NamedTensorMap | { name: string; tensor: Tensor }[];

/** A slot, as TensorFlow.js keeps it. */
interface Slot {
  readonly originalName: string;
  variable: Variable;
}

interface Item {
  /** Place of the variable, which is its slots'. */
  readonly index: number;
  readonly name: string;
  readonly variable: Variable;
  /** null for a variable that the loss does not reach: its slots are made, nothing moves. */
  readonly gradient: Tensor | null;
}

function itemsOf(gradients: Gradients): Item[] {
  const { registeredVariables } = engine();
  const isArray = Array.isArray(gradients);
  const names = isArray ? gradients.map(({ name }) => name) : Object.keys(gradients);
  return names.map((name, index) => ({
    index,
    name,
    variable: registeredVariables[name] as Variable,
    gradient: (isArray ? gradients[index]?.tensor : gradients[name]) ?? null,
  }));
}

/** True if every variable and gradient is what the kernels take. */
function suits(items: readonly Item[]): boolean {
  return items.every(
    ({ variable, gradient }) =>
      variable?.dtype === 'float32' &&
      variable.size > 0 &&
      (gradient === null || (gradient.dtype === 'float32' && gradient.size === variable.size)),
  );
}

/** Gives the variable memory of its own if anybody else could see a change of the present one. */
export function makeExclusive(variable: Variable): Variable {
  const backend = currentBackend() as OneDnnBackend;
  const storage = backend.storage(variable.dataId);
  storage.changed();
  if (storage.isExclusive) return variable;
  const copy = backend.allocate(variable.shape, 'float32');
  storage.copyTo(backend.storage(copy).peek() as Float32Array);
  tidy(() => variable.assign(engine().makeTensorFromTensorInfo(copy)));
  return variable;
}

function run(name: string, inputs: Record<string, Tensor>, attrs: Record<string, number | boolean>): void {
  for (const [slot, tensor] of Object.entries(inputs)) if (slot !== 'grad') makeExclusive(tensor as Variable);
  engine().runKernel(name, inputs, attrs);
}

/** The slot of a variable, made with `initial` if it is not there yet. */
function slotOf(slots: Slot[], { index, name, variable }: Item, suffix: string, initial = 0): Variable {
  slots[index] ??= {
    originalName: `${name}/${suffix}`,
    variable: tidy(() => (initial === 0 ? zerosLike(variable) : fill(variable.shape, initial)).variable(false)),
  };
  return slots[index].variable;
}

const numberIn = (scalar: Tensor): number => scalar.dataSync()[0] as number;

/** The members of TensorFlow.js' optimizers that are used here; most are protected there. */
interface Common {
  incrementIterations(): void;
}
type Sgd = Common & { c: Tensor };
type Momentum = Sgd & { m: Tensor; useNesterov: boolean; accumulations: Slot[] };
type Adam = Common & {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  accBeta1: Variable;
  accBeta2: Variable;
  accumulatedFirstMoment: Slot[];
  accumulatedSecondMoment: Slot[];
};
type RmsProp = Common & {
  learningRate: number;
  decay: number;
  momentum: number;
  epsilon: number;
  centered: boolean;
  accumulatedMeanSquares: Slot[];
  accumulatedMoments: Slot[];
  accumulatedMeanGrads: Slot[];
};
type Adagrad = Common & { learningRate: number; initialAccumulatorValue: number; accumulatedGrads: Slot[] };

function applySgd(this: Sgd, items: readonly Item[]): void {
  const c = numberIn(this.c);
  for (const { variable, gradient } of items) {
    if (gradient) run('ResourceApplyGradientDescent', { var: variable, grad: gradient }, { c });
  }
}

function applyMomentum(this: Momentum, items: readonly Item[]): void {
  const attrs = { c: numberIn(this.c), momentum: numberIn(this.m), useNesterov: this.useNesterov };
  for (const item of items) {
    const accum = slotOf(this.accumulations, item, 'momentum');
    const { variable, gradient } = item;
    if (gradient) run('ResourceApplyMomentum', { var: variable, accum, grad: gradient }, attrs);
  }
}

function applyAdam(this: Adam, items: readonly Item[]): void {
  const attrs = {
    rate: this.learningRate,
    beta1: this.beta1,
    beta2: this.beta2,
    epsilon: this.epsilon,
    correction1: Math.fround(1 - numberIn(this.accBeta1)),
    correction2: Math.fround(1 - numberIn(this.accBeta2)),
  };
  for (const item of items) {
    const m = slotOf(this.accumulatedFirstMoment, item, 'm');
    const v = slotOf(this.accumulatedSecondMoment, item, 'v');
    const { variable, gradient } = item;
    if (gradient) run('ResourceApplyAdam', { var: variable, m, v, grad: gradient }, attrs);
  }
  tidy(() => {
    this.accBeta1.assign(mul(this.accBeta1, this.beta1));
    this.accBeta2.assign(mul(this.accBeta2, this.beta2));
  });
}

function applyRmsProp(this: RmsProp, items: readonly Item[]): void {
  const { learningRate: rate, decay, momentum, epsilon, centered } = this;
  const attrs = { rate, decay, momentum, epsilon };
  for (const item of items) {
    const ms = slotOf(this.accumulatedMeanSquares, item, 'rms');
    const mom = slotOf(this.accumulatedMoments, item, 'momentum');
    const mg = centered ? slotOf(this.accumulatedMeanGrads, item, 'mg') : null;
    const { variable, gradient } = item;
    if (!gradient) continue;
    if (mg) run('ResourceApplyCenteredRMSProp', { var: variable, mg, ms, mom, grad: gradient }, attrs);
    else run('ResourceApplyRMSProp', { var: variable, ms, mom, grad: gradient }, attrs);
  }
}

function applyAdagrad(this: Adagrad, items: readonly Item[]): void {
  const attrs = { rate: this.learningRate, epsilon: currentBackend().epsilon() };
  for (const item of items) {
    const accum = slotOf(this.accumulatedGrads, item, 'accumulator', this.initialAccumulatorValue);
    const { variable, gradient } = item;
    if (gradient) run('ResourceApplyAdagrad', { var: variable, accum, grad: gradient }, attrs);
  }
}

const PATCHED = Symbol.for('lockstep.onednn.applyGradients');

/** Gives TensorFlow.js' optimizers their fast path, once per thread. */
export function patchOptimizers(): void {
  patch(SGDOptimizer.prototype, 'ResourceApplyGradientDescent', applySgd);
  patch(MomentumOptimizer.prototype, 'ResourceApplyMomentum', applyMomentum);
  patch(AdamOptimizer.prototype, 'ResourceApplyAdam', applyAdam);
  patch(RMSPropOptimizer.prototype, 'ResourceApplyRMSProp', applyRmsProp);
  patch(AdagradOptimizer.prototype, 'ResourceApplyAdagrad', applyAdagrad);
}

interface Patchable {
  applyGradients(gradients: Gradients): void;
}

function patch<T extends Common>(
  prototype: Patchable,
  kernelName: string,
  apply: (this: T, items: readonly Item[]) => void,
): void {
  if (Object.hasOwn(prototype, PATCHED)) return;
  Object.defineProperty(prototype, PATCHED, { value: true });
  const original = prototype.applyGradients;
  prototype.applyGradients = function (this: Patchable & T, gradients: Gradients): void {
    const items = getKernel(kernelName, getBackend()) ? itemsOf(gradients) : [];
    if (items.length === 0 || !suits(items)) original.call(this, gradients);
    else {
      apply.call(this, items);
      this.incrementIterations();
    }
  } as Patchable['applyGradients'];
}
