/**
 * What a ResNet run's checkpoint must be, beside a whole file: its metadata say where the run goes on, and a tensor has the
 * dtype and the shape of the variable that it is for. Whoever reads one, to go on, to evaluate, to warm-start or to look
 * where a run is, goes through here, so that a file changed by hand is refused with the value that cannot be.
 */
import {
  CheckpointError,
  CheckpointManager,
  type CheckpointManagerOptions,
} from '../utils/checkpoint/checkpoint-manager.js';
import { type TensorFile, TensorFileError } from '../utils/checkpoint/safetensors.js';
import { quoted } from '../utils/checkpoint/safetensors-header.js';

/** `format` in the metadata: by it a file is known for one of ours. */
export const RUN_FORMAT = 'lockstep-resnet';

/** Where a run goes on: what checkpoints say of it. */
export interface Position {
  readonly globalStep: number;
  /** Epochs of the train calls that are complete. */
  readonly epochs: number;
  /** Epochs of the call under way, 0 for none, and its steps that are done. */
  readonly callEpochs: number;
  readonly step: number;
  /** Images of such a step. */
  readonly batchSize: number;
}

/** A model folder's checkpoints, of which those that no run can go on from are passed over. */
export function runCheckpoints(
  modelDir: string,
  options: Omit<CheckpointManagerOptions, 'validate'> = {},
): CheckpointManager {
  return new CheckpointManager(modelDir, { ...options, validate: checkRun });
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

/** @throws TensorFileError naming the first value that cannot be. */
function checkRun({ metadata }: TensorFile, fileStep: number): void {
  if (metadata.format !== RUN_FORMAT) {
    throw new TensorFileError(`has ${describe(metadata.format)} for format in its metadata, not '${RUN_FORMAT}'`);
  }
  for (const [name, [low, high]] of Object.entries(COUNTS)) {
    const text = Object.hasOwn(metadata, name) ? metadata[name] : undefined;
    const value = /^(0|[1-9]\d*)$/.test(text ?? '') ? Number(text) : Number.NaN;
    if (value >= low && value <= high) continue;
    throw new TensorFileError(
      `has ${describe(text)} for ${name} in its metadata, which is to be a whole number from ${low}${high < Number.MAX_SAFE_INTEGER ? ` to ${high}` : ''}`,
    );
  }
  const { global_step: step, call_epochs: callEpochs, step: stepInCall, fine_tune: fineTune } = metadata as Metadata;
  if (step !== String(fileStep)) {
    throw new TensorFileError(`is of step ${step} by its metadata, and of step ${fileStep} by its name`);
  }
  if ((callEpochs === '0') !== (stepInCall === '0')) {
    throw new TensorFileError(`has step ${stepInCall} of a train call of ${callEpochs} epochs in its metadata`);
  }
  if (![undefined, 'true', 'false'].includes(fineTune)) {
    throw new TensorFileError(`has ${describe(fineTune)} for fine_tune in its metadata, not true or false`);
  }
  checkLossScale(metadata);
}

/** The two variables of a dynamic loss scale: both or none. */
function checkLossScale({ current_loss_scale: value, good_steps: goodSteps }: Metadata): void {
  if (value === undefined && goodSteps === undefined) return;
  const isScale = value?.trim() !== '' && Number.isFinite(Number(value)) && Number(value) > 0;
  if (isScale && /^(0|[1-9]\d*)$/.test(goodSteps ?? '')) return;
  throw new TensorFileError(
    `has ${describe(value)} for current_loss_scale and ${describe(goodSteps)} for good_steps in its metadata, which cannot be`,
  );
}

function describe(text: string | undefined): string {
  return text === undefined ? 'nothing' : quoted(text);
}

/** Of metadata that were checked. */
export function positionOf(metadata: Metadata): Position {
  return {
    globalStep: Number(metadata.global_step),
    epochs: Number(metadata.epochs),
    callEpochs: Number(metadata.call_epochs),
    step: Number(metadata.step),
    batchSize: Number(metadata.batch_size),
  };
}

/**
 * A variable's values, of a checkpoint that was read.
 * @param help What to do, if they are not what they should be.
 * @throws CheckpointError if they are not there, are no f32 numbers, or have another shape.
 */
export function variableValues(
  { path, tensors }: TensorFile & { readonly path: string },
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
