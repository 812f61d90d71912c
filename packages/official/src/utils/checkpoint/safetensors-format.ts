/** Checkpoints as safetensors: one file, which any tool of the field reads. */
import type { CheckpointFormat } from './checkpoint-format.js';
import { readTensorFile, tensorFilePieces } from './safetensors.js';

export const SAFETENSORS: CheckpointFormat = {
  name: 'safetensors',
  endings: ['.safetensors'],
  encode: (content) => [tensorFilePieces(content)],
  read: ([path]) => readTensorFile(path as string),
};
