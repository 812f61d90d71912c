/**
 * `model.fit` with a recorded step: what `tf.function` is to Keras' train_step. The model's own train function computes loss,
 * metrics and gradients in a program (program.ts); the optimizer applies the gradients after it, in every step, so learning
 * rates, slots and distributed optimizers are untouched.
 *
 * Keras traces any model and offers `run_eagerly` against surprises. TensorFlow.js promises that a user's code runs in every
 * step, so here a model is traced only if all of it is TensorFlow.js' own (built-in.ts), or if {@link setRunEagerly} says so.
 */
import {
  backend as currentBackend,
  dispose,
  engine,
  Optimizer,
  type Scalar,
  scalar,
  type Tensor,
  type TensorInfo,
  tensor,
  tidy,
  type Variable,
} from '@tensorflow/tfjs-core';
import { LayersModel, Sequential } from '@tensorflow/tfjs-layers';
import type { OneDnnBackend } from '../backend.js';
import { LayerSettings, usedByStep } from '../recording/layer-settings.js';
import type { StepProgram } from '../recording/program.js';
import { ownCodeOf, rememberBuiltIns, type TrainableModel } from './built-in.js';

type Data = (Tensor | null | undefined)[];
type TrainFunction = (data: Data) => Tensor[];
type Values = Float32Array | Int32Array | Uint8Array;

/** Members of LayersModel that are used here; most are protected there. */
interface Model extends TrainableModel {
  optimizer_: Pick<Optimizer, 'minimize' | 'computeGradients' | 'applyGradients'>;
  readonly lossFunctions: object;
  readonly collectedTrainableWeights: readonly { read(): Tensor }[];
  makeTrainFunction(): TrainFunction;
  compile(args: object): void;
  dispose(): unknown;
}

/**
 * A property of a function that computes gradients in an optimizer's place: it may be left out while a step is replayed,
 * because whatever it does besides, it has done by then. Distributed optimizers, which mirror the weights before the first
 * step, say so.
 */
const TRACEABLE = Symbol.for('lockstep.traceable');

/** Steps with a batch of one shape, one after another, before it is worth a recording: not for the rest of an epoch. */
const IN_A_ROW = 2;
/** Models that are traced at a time; each holds the memory of a step. */
const MAX_TRACED = 4;
/** A traced model gives way to another only if it has not been trained for so many steps of any model. */
const RECENT = 100;

const eagerly = new WeakMap<object, boolean>();
const programs = new WeakMap<Model, FitProgram>();
/** Those that are traced, the one that was longest unused first. */
const traced = new Set<FitProgram>();
let steps = 0;

/**
 * Keras' `run_eagerly`. true: every step of `model.fit`, `fitDataset` and `trainOnBatch` is run by TensorFlow.js. false: steps
 * may be recorded although the model has layers, losses or metrics of the user's own, whose code then runs while a step is
 * traced and not afterwards. Without it, models are recorded that consist of TensorFlow.js' own classes and functions only.
 */
export function setRunEagerly(model: LayersModel, isEager: boolean): void {
  const trained = model as unknown as Model;
  for (const own of withInner(trained)) eagerly.set(own, isEager);
  forget(trained);
}

/** A Sequential trains the functional model that it has inside; each compile makes it another. */
function withInner(model: Model): Model[] {
  const { model: inner } = model as unknown as { model?: Model };
  return inner instanceof LayersModel ? [model, inner as unknown as Model] : [model];
}

/** Gives LayersModel its recorded step, once per thread. */
export function patchTraining(): void {
  rememberBuiltIns();
  const prototype = LayersModel.prototype as unknown as Model & { [PATCHED]?: boolean };
  if (prototype[PATCHED]) return;
  Object.defineProperty(prototype, PATCHED, { value: true });
  const { makeTrainFunction, dispose: disposeModel } = prototype;
  prototype.makeTrainFunction = function (this: Model) {
    const plain = makeTrainFunction.call(this);
    programs.get(this)?.refresh();
    return (data) => programFor(this)?.run(plain, data) ?? plain(data);
  };
  prototype.dispose = function (this: Model) {
    forget(this);
    return disposeModel.call(this);
  };
  forgetAtCompile(prototype);
  // It has a compile of its own, which replaces the model inside.
  forgetAtCompile(Sequential.prototype as unknown as Model);
}

function forgetAtCompile(prototype: Model): void {
  const { compile } = prototype;
  prototype.compile = function (this: Model, args) {
    forget(this);
    compile.call(this, args);
    const isEager = eagerly.get(this);
    if (isEager !== undefined) for (const own of withInner(this)) eagerly.set(own, isEager);
  };
}

const PATCHED = Symbol.for('lockstep.onednn.training');

/** Gives back what the model's recording holds. */
function forget(model: Model): void {
  for (const own of withInner(model)) {
    programs.get(own)?.dispose();
    programs.delete(own);
  }
}

/** The model's program, made if its step can be one. */
function programFor(model: Model): FitProgram | null {
  const backend = currentBackend() as OneDnnBackend;
  let program = programs.get(model);
  if (program && !program.fits(backend)) {
    forget(model);
    program = undefined;
  }
  if (!program) {
    if (!backend.runtime?.recording) return null;
    program = new FitProgram(model, backend);
    programs.set(model, program);
  }
  return program;
}

/** @returns whether another model may be traced. */
function makeRoom(): boolean {
  if (traced.size < MAX_TRACED) return true;
  const [oldest] = traced;
  if (!oldest?.isIdle) return false;
  oldest.dispose();
  return true;
}

/** Data that stays while tensors of it come and go, so that `tf.memory()` counts none in between. */
interface Input {
  readonly values: Values;
  readonly info: TensorInfo;
}

/** A batch of one shape. */
interface Traced {
  readonly key: string;
  /** As the train function takes them: null where there are no sample weights. */
  readonly inputs: readonly (Input | null)[];
  /** By the variable's name, in row-major order. */
  readonly gradients: Map<string, Float32Array>;
  readonly program: StepProgram;
}

class FitProgram {
  readonly #lossFunctions: unknown;
  readonly #weights: unknown;
  /** Why the model's steps stay with TensorFlow.js; null if they need not. */
  readonly #refusal: string | null;
  #traced: Traced | null = null;
  #lastKey = '';
  #inARow = 0;
  #lastStep = 0;
  /** If the step was found to be not recordable: the settings that made it so. */
  #hopeless: LayerSettings | null = null;
  #results: number[] = [];

  constructor(
    private readonly model: Model,
    private readonly backend: OneDnnBackend,
  ) {
    this.#lossFunctions = model.lossFunctions;
    this.#weights = model.collectedTrainableWeights;
    const isEager = eagerly.get(model);
    this.#refusal = isEager ? 'it runs eagerly' : isEager === undefined ? ownCodeOf(model) : null;
    if (this.#refusal !== null) backend.runtime.onProgram(`model '${model.name}' is not recorded: ${this.#refusal}`);
  }

  /** False after `compile`, and in another backend: then there must be another program. */
  fits(backend: unknown): boolean {
    const { lossFunctions, collectedTrainableWeights } = this.model;
    return (
      backend === this.backend && lossFunctions === this.#lossFunctions && collectedTrainableWeights === this.#weights
    );
  }

  /** A training begins: what was changed in the layers since may have made a step recordable that was not. */
  refresh(): void {
    if (this.#hopeless?.areSame === false) this.#hopeless = null;
  }

  /** @returns loss and metrics, scalars that the caller disposes. */
  run(plain: TrainFunction, data: Data): Tensor[] {
    if (this.#refusal !== null || !this.#isTraceable()) return plain(data);
    steps++;
    const own = this.#traceFor(data);
    if (own === null) {
      let results: Tensor[] = [];
      this.backend.runtime.runStep(() => {
        results = plain(data);
      });
      return results;
    }
    for (const [i, input] of own.inputs.entries()) {
      if (input) this.backend.readInto((data[i] as Tensor).dataId, input.values as Float32Array);
    }
    own.program.run(() => this.#compute(plain, own));
    this.#apply(own);
    if (own.program.state === 'not recordable') {
      // Another shape of batch would not help, and what was set aside for it serves others.
      this.#forget();
      this.#hopeless = new LayerSettings([this.model]);
    }
    return this.#results.map((value) => scalar(value));
  }

  dispose(): void {
    this.#forget();
  }

  /** Whether the optimizer is one whose gradients are the loss's and nothing else. */
  #isTraceable(): boolean {
    const { optimizer_: optimizer } = this.model;
    const { prototype } = Optimizer;
    const compute = optimizer.computeGradients as object & { [TRACEABLE]?: boolean };
    return (
      optimizer.minimize === prototype.minimize &&
      (compute === prototype.computeGradients || compute[TRACEABLE] === true)
    );
  }

  #traceFor(data: Data): Traced | null {
    if (this.#hopeless) return null;
    if (data.some((entry) => entry?.dtype === 'string' || entry?.dtype === 'complex64')) return null;
    const key = data.map((entry) => (entry == null ? 'none' : `${entry.dtype} ${entry.shape}`)).join('; ');
    this.#inARow = key === this.#lastKey ? this.#inARow + 1 : 1;
    this.#lastKey = key;
    if (this.#traced?.key === key) {
      this.#use();
      return this.#traced;
    }
    if (this.#inARow < IN_A_ROW) return null;
    this.#forget();
    if (!makeRoom()) return null;
    this.#use();
    this.#traced = {
      key,
      inputs: data.map((like) => (like == null ? null : this.#makeInput(like))),
      gradients: new Map(),
      program: this.backend.program(() => this.#objection()),
    };
    return this.#traced;
  }

  /** A user's code may have come in since the model was compiled, a call hook for example. */
  #objection(): string | null {
    return eagerly.get(this.model) === undefined ? ownCodeOf(this.model) : null;
  }

  #use(): void {
    this.#lastStep = steps;
    traced.delete(this);
    traced.add(this);
  }

  /** Whether no step of it was among the last ones. */
  get isIdle(): boolean {
    return steps - this.#lastStep > RECENT;
  }

  #makeInput({ size, shape, dtype }: Tensor): Input {
    const Kind = dtype === 'float32' ? Float32Array : dtype === 'int32' ? Int32Array : Uint8Array;
    const values = new Kind(size);
    const made = tensor(values, shape, dtype);
    const { dataId } = made;
    this.backend.incRef(dataId);
    made.dispose();
    return { values, info: { dataId, shape, dtype } };
  }

  /** The step but for the update: leaves loss and metrics in `#results`, and gradients in `traced`. */
  #compute(plain: TrainFunction, { inputs, gradients }: Traced): void {
    const { model, backend } = this;
    const { optimizer_: optimizer } = model;
    const minimize = (f: () => Scalar, _returnCost: boolean, variables: Variable[]): Scalar => {
      const { value, grads } = optimizer.computeGradients(f, variables);
      // What was frozen, or is no longer reached, since the last time has none.
      for (const name of gradients.keys()) if (grads[name] == null) gradients.delete(name);
      for (const [name, gradient] of Object.entries(grads)) {
        if (gradient == null) continue;
        // The same array every time: a recording has its address.
        const values = gradients.get(name) ?? new Float32Array(gradient.size);
        gradients.set(name, values);
        backend.readInto(gradient.dataId, values);
      }
      dispose(grads);
      return value;
    };
    // The model itself is not called: its losses and metrics, and what is inside it, are read in every step.
    usedByStep(model);
    tidy(() => {
      const batch = inputs.map((input) => {
        if (!input) return null;
        const { dataId, shape, dtype } = input.info;
        backend.incRef(dataId);
        return engine().makeTensorFromDataId(dataId, shape, dtype, backend);
      });
      model.optimizer_ = { minimize } as unknown as Optimizer;
      try {
        const results = plain(batch);
        backend.observe(results, (...values: Float32Array[]) => {
          this.#results = values.map(([value]) => value as number);
        });
        // Metrics are kept, for somebody who gets numbers instead.
        dispose(results);
      } finally {
        model.optimizer_ = optimizer;
      }
    });
  }

  /** What Optimizer.minimize does with the gradients. */
  #apply({ gradients }: Traced): void {
    const { optimizer_: optimizer, collectedTrainableWeights } = this.model;
    tidy(() => {
      const named = collectedTrainableWeights.map((weight) => {
        const { name, shape } = weight.read() as Variable;
        const values = gradients.get(name);
        return { name, tensor: values ? tensor(values, shape) : null };
      });
      optimizer.applyGradients(named as { name: string; tensor: Tensor }[]);
    });
  }

  #forget(): void {
    if (!this.#traced) return;
    this.#traced.program.dispose();
    for (const input of this.#traced.inputs) {
      if (!input) continue;
      const { dataId } = input.info;
      if (this.backend.disposeData(dataId)) engine().removeDataId(dataId, this.backend);
    }
    this.#traced = null;
    this.#inARow = 0;
    traced.delete(this);
  }
}
