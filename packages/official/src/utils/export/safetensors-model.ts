/**
 * A model's variables in one safetensors file, for Python and everybody else: names and shapes as they were trained, nothing folded,
 * nothing of the optimizer. What else has to be known is text in its metadata, the model's description as JSON in `description`.
 */
import { tensorFilePieces } from '../checkpoint/safetensors.js';
import type { ModelExporter } from './export.js';

export const SAFETENSORS_MODEL: ModelExporter = {
  format: 'safetensors',
  entry: 'model.safetensors',
  quantizations: ['none'],
  files: ({ variables, description }) => [
    {
      name: 'model.safetensors',
      pieces: tensorFilePieces({
        tensors: variables,
        metadata: { format: 'lockstep-model', model: description.model, description: JSON.stringify(description) },
      }),
    },
  ],
};
