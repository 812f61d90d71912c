/**
 * What a ResNet run's checkpoint holds, written and read here and nowhere else: where the run is, in its metadata, and its
 * weights, momenta and moving statistics under upstream's names. Whoever reads one, to go on, to evaluate, to warm-start or to
 * look where a run is, goes through here, so that a file changed by hand is refused with the value that cannot be. Nothing here
 * knows a file's format, a thread or a strategy.
 */
import type { TrainerSegment } from '@lockstep/distribute';
import {
  CheckpointError,
  CheckpointManager,
  type CheckpointManagerOptions,
  readCheckpoint,
} from '../../utils/checkpoint/checkpoint-manager.js';
import { type StoredTensor, type TensorFile, TensorFileError } from '../../utils/checkpoint/safetensors.js';
import { quoted } from '../../utils/files/quoted.js';
import { RUN_FORMATS, type RunFormatName, runFormat } from '../checkpoint-formats.js';
import { type StatisticSegment, upstreamName } from '../resnet-model.js';
import { TENSORFLOW_ORIGIN } from '../tensorflow-names.js';
import type { Position } from './position.js';

/** `format` in the metadata: by it a file is known for one of ours. */
export const RUN_FORMAT = 'lockstep-resnet';

export interface RunCheckpointOptions extends Pick<CheckpointManagerOptions, 'maxToKeep' | 'warn'> {
  /** What is written; every format is read. Default: safetensors. */
  readonly format?: RunFormatName;
}

/** A model folder's checkpoints, of which those that no run can go on from are passed over. TensorFlow's own are never deleted. */
export function runCheckpoints(modelDir: string, options: RunCheckpointOptions = {}): CheckpointManager {
  const { format = 'safetensors', ...others } = options;
  return new CheckpointManager(modelDir, {
    ...others,
    format: runFormat(format),
    formats: RUN_FORMATS,
    validate: checkRun,
    isOwn: ({ metadata }) => !isForeign(metadata),
  });
}

/** One checkpoint, of whatever format, or the newest of a folder. @throws CheckpointError if there is none, or it is damaged */
export function readRun(where: string): ReadFile {
  return readCheckpoint(where, RUN_FORMATS);
}

type Metadata = Readonly<Record<string, string>>;

const MAX_SEED = 2 ** 32 - 1;
/** Smallest and largest value of each count in the metadata. */
const COUNTS = {
  global_step: [0, Number.MAX_SAFE_INTEGER],
  epochs: [0, Number.MAX_SAFE_INTEGER],
  call_epochs: [0, Number.MAX_SAFE_INTEGER],
  step: [0, Number.MAX_SAFE_INTEGER],
  batch_size: [1, Number.MAX_SAFE_INTEGER],
  seed: [0, MAX_SEED],
  resnet_size: [1, Number.MAX_SAFE_INTEGER],
  resnet_version: [1, 2],
} as const;

/** Of what a checkpoint of TensorFlow's says nothing: no epoch is known to be over, and no random number was drawn here. */
const FOREIGN: Metadata = { format: RUN_FORMAT, epochs: '0', call_epochs: '0', step: '0', batch_size: '1', seed: '0' };

function isForeign(metadata: Metadata): boolean {
  return metadata.origin === TENSORFLOW_ORIGIN;
}

/** @throws TensorFileError naming the first value that cannot be. */
function checkRun({ metadata }: TensorFile, fileStep: number): void {
  checkMetadata(metadata);
  const { global_step: step } = metadata;
  if (step !== String(fileStep)) {
    throw new TensorFileError(`is of step ${step} by its metadata, and of step ${fileStep} by its name`);
  }
}

/** @throws TensorFileError naming the first value that cannot be. */
function checkMetadata(its: Metadata): void {
  const metadata: Metadata = isForeign(its) ? { ...FOREIGN, ...its } : its;
  if (metadata.format !== RUN_FORMAT) {
    throw new TensorFileError(`has ${describe(metadata.format)} for format in its metadata, not '${RUN_FORMAT}'`);
  }
  for (const [name, [low, high]] of Object.entries(COUNTS)) {
    const text = Object.hasOwn(metadata, name) ? metadata[name] : undefined;
    const value = /^(0|[1-9]\d*)$/.test(text ?? '') ? Number(text) : Number.NaN;
    if (value >= low && value <= high) continue;
    if (isForeign(metadata)) throw new TensorFileError(`has ${describe(text)} for ${name}: no run can go on from it`);
    throw new TensorFileError(
      `has ${describe(text)} for ${name} in its metadata, which is to be a whole number from ${low}${high < Number.MAX_SAFE_INTEGER ? ` to ${high}` : ''}`,
    );
  }
  const { call_epochs: callEpochs, step: stepInCall, fine_tune: fineTune } = metadata as Metadata;
  if ((callEpochs === '0') !== (stepInCall === '0')) {
    throw new TensorFileError(`has step ${stepInCall} of a train call of ${callEpochs} epochs in its metadata`);
  }
  if (![undefined, 'true', 'false'].includes(fineTune)) {
    throw new TensorFileError(`has ${describe(fineTune)} for fine_tune in its metadata, not true or false`);
  }
  for (const name of SCALAR_COUNTS) {
    const text = metadata[name];
    if (text === undefined || isWhole(text)) continue;
    throw new TensorFileError(`has ${describe(text)} for ${name} in its metadata, which is to be a whole number`);
  }
  checkLossScale(metadata);
  checkPictures(metadata);
}

/** Checkpoints of before they were told of have none of these. */
function checkPictures({ image_size: size, class_names: names }: Metadata): void {
  if (size !== undefined && !(isWhole(size) && size !== '0')) {
    throw new TensorFileError(`has ${describe(size)} for image_size in its metadata, which is to be a whole number`);
  }
  if (names !== undefined && namesIn(names) === null) {
    throw new TensorFileError(`has ${describe(names)} for class_names in its metadata, which is to be a list of texts`);
  }
}

function namesIn(json: string): string[] | null {
  try {
    const names = JSON.parse(json) as unknown;
    return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : null;
  } catch {
    return null;
  }
}

function isWhole(text: string | undefined): boolean {
  return /^(0|[1-9]\d*)$/.test(text ?? '') && Number.isSafeInteger(Number(text));
}

/** The two variables of a dynamic loss scale: both or none. */
function checkLossScale({ current_loss_scale: value, good_steps: goodSteps }: Metadata): void {
  if (value === undefined && goodSteps === undefined) return;
  const isScale = value?.trim() !== '' && Number.isFinite(Number(value)) && Number(value) > 0;
  if (isScale && isWhole(goodSteps)) return;
  throw new TensorFileError(
    `has ${describe(value)} for current_loss_scale and ${describe(goodSteps)} for good_steps in its metadata, which cannot be`,
  );
}

function describe(text: string | undefined): string {
  return text === undefined ? 'nothing' : quoted(text);
}

/** What a run is besides its arrays. */
export interface RunState {
  readonly position: Position;
  /** Random numbers are functions of it and of the position: this is the whole random state. */
  readonly seed: number;
  /** Whether the dense layer alone was trained, so that the others have no momenta. */
  readonly fineTune: boolean;
  readonly model: { readonly size: number; readonly version: number };
  /** The trainer's numbers (`Trainer.scalars`): updates made, the two variables of a dynamic loss scale, and packs that were chosen. */
  readonly scalars: Readonly<Record<string, number>>;
  /** What it was trained on; absent where that is not known. */
  readonly pictures?: {
    /** 'CIFAR-10' */
    readonly dataset: string;
    /** Height and width. */
    readonly size: number;
    readonly classNames?: readonly string[];
  };
  /** TensorFlow wrote it: the step is all that is known of where the run is. See {@link placeOf}. */
  readonly isForeign: boolean;
}

/** Names of the trainer's numbers in the metadata: TensorFlow's, where it has any. */
const SCALARS = {
  updates: 'updates',
  lossScale: 'current_loss_scale',
  goodSteps: 'good_steps',
  numPacks: 'num_packs',
  numPacksWorkers: 'num_packs_workers',
} as const;
/** Those of them that count something. */
const SCALAR_COUNTS = [SCALARS.updates, SCALARS.numPacks, SCALARS.numPacksWorkers] as const;

/** A run's arrays with their places; values are read from and written into them. */
export interface RunArrays {
  readonly trained: {
    readonly segments: readonly TrainerSegment[];
    readonly weights: Float32Array;
    readonly slots: Readonly<Record<string, Float32Array>>;
  };
  readonly frozen: { readonly segments: readonly TrainerSegment[]; readonly values: Float32Array };
  readonly statistics: { readonly segments: readonly StatisticSegment[]; readonly values: Float32Array };
}

/** A checkpoint's content. Its arrays are views: save it before the next step. */
export function toTensorFile(
  { position, seed, fineTune, model, scalars, pictures }: Omit<RunState, 'isForeign'>,
  arrays: RunArrays,
): TensorFile {
  return {
    tensors: toTensors(arrays),
    metadata: {
      format: RUN_FORMAT,
      global_step: String(position.globalStep),
      // Epochs of the train calls before the one under way; its own, if it is; and steps of a batch within it.
      epochs: String(position.epochs),
      call_epochs: String(position.callEpochs),
      step: String(position.step),
      batch_size: String(position.batchSize),
      seed: String(seed),
      ...Object.fromEntries(
        Object.entries(SCALARS).flatMap(([name, saved]) =>
          scalars[name] === undefined ? [] : [[saved, String(scalars[name])]],
        ),
      ),
      fine_tune: String(fineTune),
      resnet_size: String(model.size),
      resnet_version: String(model.version),
      ...(pictures && { dataset: pictures.dataset, image_size: String(pictures.size) }),
      ...(pictures?.classNames && { class_names: JSON.stringify(pictures.classNames) }),
    },
  };
}

/** Of metadata that were checked. */
export function stateOf(checked: Metadata): RunState {
  const metadata: Metadata = isForeign(checked) ? { ...FOREIGN, ...checked } : checked;
  // Before there were more of them every update was a global step, as it is still.
  const saved: Metadata = { ...metadata, updates: metadata.updates ?? (metadata.global_step as string) };
  return {
    position: {
      globalStep: Number(metadata.global_step),
      epochs: Number(metadata.epochs),
      callEpochs: Number(metadata.call_epochs),
      step: Number(metadata.step),
      batchSize: Number(metadata.batch_size),
    },
    seed: Number(metadata.seed),
    fineTune: metadata.fine_tune === 'true',
    model: { size: Number(metadata.resnet_size), version: Number(metadata.resnet_version) },
    scalars: Object.fromEntries(
      Object.entries(SCALARS).flatMap(([name, text]) =>
        saved[text] === undefined ? [] : [[name, Number(saved[text])]],
      ),
    ),
    ...picturesOf(metadata),
    isForeign: isForeign(checked),
  };
}

function picturesOf({ dataset, image_size: size, class_names: names }: Metadata): Pick<RunState, 'pictures'> {
  if (dataset === undefined || size === undefined) return {};
  const classNames = names === undefined ? null : namesIn(names);
  return { pictures: { dataset, size: Number(size), ...(classNames && { classNames }) } };
}

/** What a checkpoint is of that was read by its name. @throws CheckpointError if it is no run's */
export function checkedState({ path, metadata }: ReadFile): RunState {
  try {
    checkMetadata(metadata);
  } catch (error) {
    if (!(error instanceof TensorFileError)) throw error;
    throw new CheckpointError(
      `Checkpoint ${path} ${error.message}.\nhelp: choose a checkpoint of the official ResNet's.`,
    );
  }
  return stateOf(metadata);
}

/**
 * Where a run goes on. TensorFlow's own checkpoints know the step alone: as many epochs are over as such steps make, and the one under way
 * begins anew.
 */
export function placeOf({ position, isForeign }: RunState, images: number, batchSize: number): Position {
  if (!isForeign) return position;
  return { ...position, epochs: Math.floor((position.globalStep * batchSize) / images) };
}

/** Whatever it is that a checkpoint was read from. */
export type ReadFile = TensorFile & { readonly path: string };

/**
 * A run's arrays from its checkpoint.
 * @param model this run's, for the message where the checkpoint is another's
 * @throws CheckpointError naming the first variable that it does not have so
 */
export function fillArrays(file: ReadFile, { trained, frozen, statistics }: RunArrays, model: RunState['model']): void {
  const { model: its, fineTune, isForeign } = stateOf(file.metadata);
  const isSame = its.size === model.size && its.version === model.version;
  const help =
    `: it is of ResNet-${its.size} v${its.version}, this run trains ResNet-${model.size} v${model.version}.\n` +
    `help: another --model_dir, or --clean to start over; ${
      isSame
        ? 'for other images or classes --pretrained_model_checkpoint_path takes all of it but the dense layer.'
        : `--resnet_size=${its.size} --resnet_version=${its.version} goes on with it.`
    }`;
  const hasTensor = (name: string) => Object.hasOwn(file.tensors, name);
  const read = (name: string, shape: readonly number[]) => variableValues(file, name, shape, help);
  for (const { name, offset, length } of statistics.segments) statistics.values.set(read(name, [length]), offset);
  for (const { name, offset, shape } of frozen.segments) frozen.values.set(read(upstreamName(name), shape), offset);
  for (const { name, offset, shape } of trained.segments) {
    const values = read(upstreamName(name), shape);
    // Fine tuning has slots for the dense layer alone; whoever goes on with all of them begins with zeros, as at the start.
    // So does who goes on with a checkpoint of TensorFlow's that was saved without them.
    const hasSlots = !fineTune || name.includes('dense');
    const slots = Object.keys(trained.slots)
      .filter((slot) => hasSlots && (!isForeign || hasTensor(`${upstreamName(name)}/${slot}`)))
      .map((slot) => [slot, read(`${upstreamName(name)}/${slot}`, shape)] as const);
    trained.weights.set(values, offset);
    for (const [slot, slotValues] of slots) trained.slots[slot]?.set(slotValues, offset);
  }
}

/**
 * Upstream's warm start: everything but the dense layer from another run's checkpoint.
 * @throws CheckpointError naming the first variable that it does not have so
 */
export function fillForWarmStart(file: ReadFile, arrays: RunArrays): void {
  const help =
    '.\nhelp: --pretrained_model_checkpoint_path needs a checkpoint of the same --resnet_size and --resnet_version.';
  for (const { segments, values } of weightsOf(arrays)) {
    for (const { name, offset, shape } of segments) {
      if (!name.includes('dense')) values.set(variableValues(file, upstreamName(name), shape, help), offset);
    }
  }
  const { segments, values } = arrays.statistics;
  for (const { name, offset, length } of segments) values.set(variableValues(file, name, [length], help), offset);
}

/** The first number of the weights and statistics that is not finite, with upstream's name of its variable; null: all are. */
export function findNonFinite(arrays: RunArrays): { readonly name: string; readonly value: number } | null {
  for (const { segments, values } of [...weightsOf(arrays), arrays.statistics]) {
    for (const { name, offset, length } of segments) {
      const value = values.subarray(offset, offset + length).find((one) => !Number.isFinite(one));
      if (value !== undefined) return { name: upstreamName(name), value };
    }
  }
  return null;
}

/** Weights, trained and not. */
function weightsOf({ trained, frozen }: RunArrays): readonly RunArrays['frozen'][] {
  return [{ segments: trained.segments, values: trained.weights }, frozen];
}

function toTensors(arrays: RunArrays): Record<string, StoredTensor> {
  const tensors: Record<string, StoredTensor> = {};
  const add = (name: string, shape: readonly number[], values: Float32Array, offset: number, length: number) => {
    tensors[name] = { shape, values: values.subarray(offset, offset + length) };
  };
  for (const { segments, values } of weightsOf(arrays)) {
    for (const { name, offset, length, shape } of segments) add(upstreamName(name), shape, values, offset, length);
  }
  const { trained, statistics } = arrays;
  for (const [slot, values] of Object.entries(trained.slots)) {
    for (const { name, offset, length, shape } of trained.segments) {
      add(`${upstreamName(name)}/${slot}`, shape, values, offset, length);
    }
  }
  for (const { name, offset, length } of statistics.segments) add(name, [length], statistics.values, offset, length);
  return tensors;
}

/**
 * A variable's values, of a checkpoint that was read.
 * @param help What to do, if they are not what they should be.
 * @throws CheckpointError if they are not there, are no f32 numbers, or have another shape.
 */
export function variableValues(
  { path, tensors }: ReadFile,
  name: string,
  shape: readonly number[],
  help: string,
): Float32Array {
  const tensor = Object.hasOwn(tensors, name) ? tensors[name] : undefined;
  const length = shape.reduce((a, b) => a * b, 1);
  const fail = (has: string, expected: string) => {
    throw new CheckpointError(`Checkpoint ${path} has ${has} for ${name}, expected ${expected}${help}`);
  };
  if (tensor?.values.length !== length) {
    return fail(tensor ? `${tensor.values.length} elements` : 'nothing', String(length)) as never;
  }
  if (tensor.shape.length !== shape.length || tensor.shape.some((size, i) => size !== shape[i])) {
    return fail(`shape [${tensor.shape}]`, `[${shape}]`) as never;
  }
  if (!(tensor.values instanceof Float32Array)) return fail('dtype I32', 'F32') as never;
  return tensor.values;
}
