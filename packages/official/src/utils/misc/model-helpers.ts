/*
 * Small helpers that every model's run loop needs: upstream's `official/utils/misc/model_helpers.py`. When to stop,
 * constant-valued synthetic data, and --clean, which deletes a model folder and nothing else.
 */
import { existsSync, lstatSync, mkdirSync, readdirSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import type { FlagsObject } from '../flags/core.js';
import { type Log, stderrLog } from '../logs/log.js';

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

/** Name of the file that marks a folder as a model folder; see markModelDir. */
export const MODEL_DIR_MARKER = '.lockstep-model';

/** A file that only a training run makes. One of them makes a folder a model folder. */
const CHECKPOINT = /^(checkpoint(s|\.json)?|(model\.)?ckpt-?\d.*|.*\.safetensors(\..*)?)$/;
/** What else a run leaves at the top of a model folder; upstream's event files and graphs included. */
const ARTEFACT =
  /^(events\.out\.tfevents\..*|timeline-\d+\.json|metric\.log|benchmark_run\.log|eval(_.*)?|train|export|graph\.pbtxt|model\.json|(.*\.)?weights\.bin|run\.json|progress\.json|\..*\.tmp|.*\.tmp)$/;

/**
 * Makes a folder, if need be, and marks it as one that Lockstep may delete on --clean. A run calls it before it writes
 * the first file.
 *
 * @throws Error of the file system, for example without write permission.
 */
export function markModelDir(modelDir: string): void {
  mkdirSync(modelDir, { recursive: true });
  const marker = path.join(modelDir, MODEL_DIR_MARKER);
  if (!existsSync(marker)) writeFileSync(marker, 'A model folder of Lockstep: --clean may delete it.\n');
}

/** Why a folder must not be deleted, or null when it looks like a model folder. */
function whyNotModelDir(real: string): string | null {
  const inside = (parent: string) => {
    const relative = path.relative(real, parent);
    return relative === '' || !(relative.startsWith('..') || path.isAbsolute(relative));
  };
  const protectedDirs = {
    'the home folder': homedir(),
    'the current folder': process.cwd(),
    'the folder for temporary files': tmpdir(),
  };
  for (const [what, dir] of Object.entries(protectedDirs)) {
    if (existsSync(dir) && inside(realpathSync(dir))) return `it is or contains ${what}, ${dir}`;
  }
  if (!statSync(real).isDirectory()) return 'it is no folder';
  const entries = readdirSync(real);
  const known = (name: string) => name === MODEL_DIR_MARKER || CHECKPOINT.test(name) || ARTEFACT.test(name);
  const foreign = entries.filter((name) => !known(name));
  if (foreign.length > 0) {
    const shown = foreign.slice(0, 3).join(', ');
    return `it contains ${shown}${foreign.length > 3 ? ` and ${foreign.length - 3} more` : ''}, which no training run makes`;
  }
  if (entries.length > 0 && !entries.some((name) => name === MODEL_DIR_MARKER || CHECKPOINT.test(name))) {
    return 'it contains no checkpoint';
  }
  return null;
}

/**
 * With --clean, deletes model_dir and says so; does nothing where the flag is not set or the folder does not exist. Only
 * a folder that looks like a model folder is deleted: checkpoints or our marker in it, nothing foreign at its top, and
 * neither the home, current or temporary folder nor a parent of one. A symbolic link stays, and its target is emptied.
 *
 * @returns true when something was deleted.
 * @throws Error naming the folder, why it was left alone, and what to do.
 */
export function applyClean(flagsObj: Pick<FlagsObject, 'clean' | 'model_dir'>, log: Log = stderrLog): boolean {
  const { clean, model_dir: modelDir } = flagsObj;
  if (!clean || !existsSync(modelDir)) return false;
  const real = realpathSync(modelDir);
  const reason = whyNotModelDir(real);
  if (reason !== null) {
    throw new Error(
      `--clean does not delete --model_dir=${modelDir}: ${reason}. Choose another --model_dir, or delete the folder yourself if nothing in it is needed.`,
    );
  }
  log.info(`--clean flag set. Removing existing model dir: ${modelDir}`);
  if (lstatSync(modelDir).isSymbolicLink()) {
    for (const name of readdirSync(real)) rmSync(path.join(real, name), { recursive: true, force: true });
  } else {
    rmSync(real, { recursive: true, force: true });
  }
  return true;
}
