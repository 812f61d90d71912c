/** The formats that models are exported in, by the names that --export_format has for them; the first one without the flag. */
import type { ModelExporter } from './export.js';
import { SAFETENSORS_MODEL } from './safetensors-model.js';
import { TFJS_LAYERS_MODEL } from './tfjs-layers-model.js';

export type ExportFormatName = 'tfjs' | 'safetensors';

const BY_NAME: Readonly<Record<ExportFormatName, ModelExporter>> = {
  tfjs: TFJS_LAYERS_MODEL,
  safetensors: SAFETENSORS_MODEL,
};

export function exporterOf(name: ExportFormatName): ModelExporter {
  return BY_NAME[name];
}
