/** The formats that checkpoints are looked for in, the first one being that of whoever chooses none. */
import type { CheckpointFormat } from './checkpoint-format.js';
import { SAFETENSORS } from './safetensors-format.js';
import { TENSORFLOW } from './tensorflow-format.js';

export const FORMATS: readonly [CheckpointFormat, ...CheckpointFormat[]] = [SAFETENSORS, TENSORFLOW];
