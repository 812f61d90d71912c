/*
 * Small helpers that every model's run loop needs: upstream's `official/utils/misc/model_helpers.py`. When to stop,
 * constant-valued synthetic data, and a model folder of one's own. --clean is in clean-model-dir.ts.
 */
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { makeFolder } from '../files/make-folder.js';
import { type Log, stderrLog } from '../logs/log.js';
import { MARKER_TEXT, MODEL_DIR_MARKER } from './clean-model-dir.js';

export { applyClean, MODEL_DIR_MARKER } from './clean-model-dir.js';

/**
 * Whether training has reached its goal: evalMetric >= stopThreshold. Without a threshold (null or undefined) the
 * answer is false and the metric is not looked at. 0 is a threshold. Upstream's texts.
 *
 * @param stopThreshold the flag stop_threshold.
 * @param evalMetric the metric of the evaluation, for example the accuracy in [0, 1].
 * @throws TypeError when either is not a number.
 */
export function pastStopThreshold(stopThreshold: unknown, evalMetric: unknown, log: Log = stderrLog): boolean {
  if (stopThreshold === null || stopThreshold === undefined) return false;
  if (typeof stopThreshold !== 'number') {
    throw new TypeError('Threshold for checking stop conditions must be a number.');
  }
  if (typeof evalMetric !== 'number') {
    throw new TypeError('Eval metric being checked against stop conditions must be a number.');
  }
  if (!(evalMetric >= stopThreshold)) return false;
  log.info(`Stop threshold of ${stopThreshold} was passed with metric value ${evalMetric}.`);
  return true;
}

/** A shape, or an array or record of shapes, of any depth. */
export type NestedShape = readonly number[] | readonly NestedShape[] | { readonly [name: string]: NestedShape };
/** Tensors in the structure of a NestedShape. */
export type NestedTensor = tf.Tensor | NestedTensor[] | { [name: string]: NestedTensor };

/** What generateSyntheticData yields: the input alone, or input and label. */
export type SyntheticElement = NestedTensor | [NestedTensor, NestedTensor];

/** Options of generateSyntheticData; every value in the input (or label) is the same. */
export interface SyntheticDataOptions {
  inputShape: NestedShape;
  /** Default 0. */
  inputValue?: number;
  /** Default float32. */
  inputDtype?: tf.NumericDataType;
  /** Without it the elements are inputs only, not pairs. */
  labelShape?: NestedShape;
  labelValue?: number;
  labelDtype?: tf.NumericDataType;
}

/**
 * Endless elements that are all the same constant tensors, in the structure of the shapes. The tensors are made once,
 * by the first `next()`, on the current TensorFlow.js backend, and disposed when the loop is left: keep none of them.
 *
 * @example for (const [image, label] of generateSyntheticData({ inputShape: [8, 8, 3], labelShape: [] })) { … break; }
 */
export function* generateSyntheticData(options: SyntheticDataOptions): Generator<SyntheticElement, void> {
  const { inputShape, inputValue = 0, inputDtype = 'float32' } = options;
  const { labelShape, labelValue = 0, labelDtype = 'float32' } = options;
  const input = fillNested(inputShape, inputValue, inputDtype);
  const label = labelShape === undefined ? null : fillNested(labelShape, labelValue, labelDtype);
  try {
    const element: SyntheticElement = label === null ? input : [input, label];
    while (true) yield element;
  } finally {
    disposeNested(input);
    if (label !== null) disposeNested(label);
  }
}

function isShape(shape: NestedShape): shape is readonly number[] {
  return Array.isArray(shape) && shape.every((size) => typeof size === 'number');
}

function fillNested(shape: NestedShape, value: number, dtype: tf.NumericDataType): NestedTensor {
  if (isShape(shape)) return tf.keep(tf.fill([...shape], value, dtype));
  if (Array.isArray(shape)) return shape.map((part: NestedShape) => fillNested(part, value, dtype));
  const parts = Object.entries(shape as { readonly [name: string]: NestedShape });
  return Object.fromEntries(parts.map(([name, part]) => [name, fillNested(part, value, dtype)]));
}

function disposeNested(tensors: NestedTensor): void {
  if (tensors instanceof tf.Tensor) tensors.dispose();
  else for (const part of Object.values(tensors)) disposeNested(part);
}

/**
 * Makes a folder, if need be, and marks it as a model folder. A run calls it before it writes the first file.
 *
 * @throws Error of the file system, for example without write permission.
 */
export function markModelDir(modelDir: string): void {
  makeFolder(modelDir);
  const marker = path.join(modelDir, MODEL_DIR_MARKER);
  if (!existsSync(marker)) writeFileSync(marker, MARKER_TEXT);
}
