/** Checkpoints as safetensors: one file, which any tool of the field reads. And the list of formats that are looked for. */
import type { CheckpointFormat } from './checkpoint-format.js';
import { readTensorFile, tensorFilePieces } from './safetensors.js';

export const SAFETENSORS: CheckpointFormat = {
  name: 'safetensors',
  endings: ['.safetensors'],
  encode: (content) => [tensorFilePieces(content)],
  read: ([path]) => readTensorFile(path as string),
};

export const FORMATS: readonly CheckpointFormat[] = [SAFETENSORS];
