/**
 * What a user hands to a trainer, checked where it is handed over: variables and options when it is made, loss, learning rate and
 * batch in every step. The same for every strategy, before anything is allocated, computed or sent; each error says what was
 * given and what to give instead. A step's checks read a few numbers and allocate nothing.
 */

import * as tf from '@tensorflow/tfjs-core';
import { describe } from '../describe.js';
import type { Loss, StepInput } from './local-step.js';
import { LossScale } from './loss-scale.js';
import { flatOptimizer } from './optimizers/create.js';
import type { LearningRate, TrainerOptions } from './trainer.js';

/** @throws Error, TypeError, RangeError naming the variable or the option, and what to give instead. */
export function checkTrainer(variables: readonly tf.Variable[], options: TrainerOptions): void {
  checkVariables(variables);
  checkOptions(variables, options);
}

/** @throws TypeError, RangeError for what no step can be made of. */
export function checkStep(loss: Loss, learningRate: LearningRate, inputs?: readonly StepInput[]): void {
  if (typeof loss !== 'function') {
    throw new TypeError(
      `step() takes a function that computes the loss, got ${describe(loss)}.\n` +
        'help: trainer.step(() => lossOf(batch), learningRate)',
    );
  }
  // What a schedule returns is checked when it is asked.
  if (typeof learningRate !== 'function') checkLearningRate(learningRate);
  if (inputs !== undefined) checkInputs(inputs);
}

/** @throws TypeError, RangeError unless it is a finite number that is not negative. */
export function checkLearningRate(learningRate: unknown): void {
  if (typeof learningRate !== 'number') {
    throw new TypeError(
      `The learning rate must be a number, got ${describe(learningRate)}.\nhelp: ${
        learningRate instanceof tf.Tensor
          ? 'rate.dataSync()[0] is the number in a tensor.'
          : 'trainer.step(loss, 0.1): the learning rate is given in every step.'
      }`,
    );
  }
  if (Number.isFinite(learningRate) && learningRate >= 0) return;
  throw new RangeError(
    `The learning rate must be a finite number that is not negative, got ${learningRate}.\n` +
      'help: look at what computes it; every weight would have become worthless.',
  );
}

function checkInputs(inputs: readonly StepInput[]): void {
  if (!Array.isArray(inputs)) {
    throw new TypeError(
      `The inputs of step() must be a list, got ${describe(inputs)}.\n` +
        'help: trainer.step(loss, rate, [{ values: pixels, shape: [32, 28, 28, 1] }, …])',
    );
  }
  for (let i = 0; i < inputs.length; i++) checkInput(inputs[i] as StepInput, i);
}

function checkInput(input: StepInput, index: number): void {
  const { values, shape } = (input ?? {}) as StepInput;
  if (!(values instanceof Float32Array) && !(values instanceof Int32Array)) {
    throw new TypeError(
      `Input ${index} of step() must have values in a Float32Array or an Int32Array, got ${
        input === null || typeof input !== 'object' || input instanceof tf.Tensor ? describe(input) : describe(values)
      }.\nhelp: { values: Float32Array.from(numbers), shape: […] }`,
    );
  }
  let size = 1;
  let isShape = Array.isArray(shape);
  for (let i = 0; isShape && i < shape.length; i++) {
    const length = shape[i] as number;
    isShape = Number.isInteger(length) && length >= 0;
    size *= length;
  }
  if (!isShape) {
    throw new TypeError(
      `The shape of input ${index} of step() must be a list of whole numbers, got ${describe(shape)}.`,
    );
  }
  if (values.length === size) return;
  throw new RangeError(
    `Input ${index} of step() has ${values.length} values, and its shape [${shape}] holds ${size}.\n` +
      'help: give the shape that this batch has; the last one of an epoch may be shorter.',
  );
}

function checkVariables(variables: readonly tf.Variable[]): void {
  if (!Array.isArray(variables)) {
    throw new TypeError(
      `trainer() takes a list of variables, got ${describe(variables)}.\n` +
        'help: for a model, model.trainableWeights.map((weight) => weight.read()).',
    );
  }
  if (variables.length === 0) throw new Error('trainer() was given no variables.');
  for (const [i, variable] of variables.entries()) {
    if (!(variable instanceof tf.Variable)) {
      const isLayers = typeof (variable as { read?: unknown } | null)?.read === 'function';
      throw new TypeError(
        `Variable ${i} given to trainer() is no tf.Variable but ${describe(variable)}.\nhelp: ${
          isLayers
            ? 'a layer hands out its variables by read(): model.trainableWeights.map((weight) => weight.read()).'
            : 'tf.variable(initialValue) makes one.'
        }`,
      );
    }
    const { name, trainable, dtype, isDisposed } = variable;
    if (isDisposed) throw new Error(`Variable '${name}' given to trainer() is disposed.`);
    if (!trainable) {
      throw new Error(
        `Variable '${name}' is not trainable.\nhelp: give trainable variables only; moving statistics stay per replica, ` +
          'context.averageStatistics() combines them.',
      );
    }
    if (dtype !== 'float32') throw new Error(`Variable '${name}' is ${dtype}; trainer() takes float32 variables.`);
  }
  if (new Set(variables).size !== variables.length) throw new Error('trainer() was given a variable twice.');
}

function checkOptions(variables: readonly tf.Variable[], options: TrainerOptions): void {
  const {
    optimizer,
    weightDecay,
    lossScale,
    clip,
    accumulateSteps = 1,
    skipNonFinite,
  } = (options ?? {}) as TrainerOptions;
  if (skipNonFinite !== undefined && typeof skipNonFinite !== 'boolean') {
    throw new TypeError(`skipNonFinite must be true or false, got ${describe(skipNonFinite)}.`);
  }
  // It checks its numbers when it is made.
  flatOptimizer(optimizer);
  new LossScale(lossScale);
  checkClip(clip);
  checkAccumulateSteps(accumulateSteps);
  if (weightDecay === undefined) return;
  const { rate, applies } = (weightDecay ?? {}) as NonNullable<TrainerOptions['weightDecay']>;
  if (typeof rate !== 'number' || !Number.isFinite(rate) || rate < 0) {
    throw new RangeError(`weightDecay.rate must be a finite number that is not negative, got ${describe(rate)}.`);
  }
  if (typeof applies !== 'function') {
    throw new TypeError(
      `weightDecay.applies must be a function of a variable, got ${describe(applies)}.\nhelp: applies: () => true`,
    );
  }
  for (const variable of variables) {
    const answer: unknown = applies(variable);
    if (typeof answer === 'boolean') continue;
    throw new TypeError(
      `weightDecay.applies must return true or false, got ${describe(answer)} for '${variable.name}'.`,
    );
  }
}

/** @throws RangeError unless it is a number of calls. */
export function checkAccumulateSteps(accumulateSteps: unknown): void {
  if (Number.isInteger(accumulateSteps) && (accumulateSteps as number) >= 1) return;
  throw new RangeError(`accumulateSteps must be a positive integer, got ${describe(accumulateSteps)}.`);
}

/** @throws TypeError, RangeError for what limits nothing. */
export function checkClip(clip: TrainerOptions['clip']): void {
  if (clip === undefined) return;
  const given = Object.entries(clip ?? {});
  const [first] = given;
  if (given.length !== 1 || !first || !['value', 'globalNorm'].includes(first[0])) {
    throw new TypeError(
      `clip must be { value } or { globalNorm }, got ${describe(clip)}.\nhelp: clip: { globalNorm: 1 }`,
    );
  }
  const [name, bound] = first as [string, unknown];
  if (typeof bound === 'number' && Number.isFinite(bound) && bound > 0) return;
  throw new RangeError(`clip.${name} must be a number above 0, got ${describe(bound)}.`);
}
