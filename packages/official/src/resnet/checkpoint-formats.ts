/** The formats of a run's checkpoints, by the names that --checkpoint_format has for them. In each a checkpoint has the same content. */
import type { CheckpointFormat } from '../utils/checkpoint/checkpoint-format.js';
import { SAFETENSORS } from '../utils/checkpoint/safetensors-format.js';
import { TENSORFLOW } from '../utils/checkpoint/tensorflow-format.js';
import { fromTensorFlow, toTensorFlow } from './tensorflow-names.js';

const RESNET_TENSORFLOW: CheckpointFormat = {
  ...TENSORFLOW,
  encode: (content) => TENSORFLOW.encode(toTensorFlow(content)),
  read: (paths) => fromTensorFlow(TENSORFLOW.read(paths)),
};

export type RunFormatName = 'safetensors' | 'tensorflow';

const BY_NAME: Readonly<Record<RunFormatName, CheckpointFormat>> = {
  safetensors: SAFETENSORS,
  tensorflow: RESNET_TENSORFLOW,
};

/** All that are read, the one that is written without a flag first. */
export const RUN_FORMATS: readonly [CheckpointFormat, ...CheckpointFormat[]] = [SAFETENSORS, RESNET_TENSORFLOW];

export function runFormat(name: RunFormatName): CheckpointFormat {
  return BY_NAME[name];
}
