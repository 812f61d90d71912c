/** A trained ResNet as files for other programs: from a checkpoint to a folder that is written whole, or not at all. */
import type { ExportFile, ModelDescription, Quantization } from '../../utils/export/export.js';
import { writeExportFolder } from '../../utils/export/export-folder.js';
import { type ExportFormatName, exporterOf } from '../../utils/export/formats.js';
import { UsageError } from '../../utils/flags/core.js';
import { type ModelFacts, readTrainedResnet } from './trained-resnet.js';

export interface ExportOptions extends ModelFacts {
  /** A checkpoint, or a folder of them. */
  readonly from: string;
  /** New, or empty. */
  readonly to: string;
  readonly format: ExportFormatName;
  /** How messages call the folder: 'flag --export_dir'. */
  readonly what: string;
  /** Files that lie beside the model: a page that uses it. */
  readonly beside?: (description: ModelDescription) => readonly ExportFile[];
}

export interface ExportedModel {
  /** Where it was read from. */
  readonly checkpoint: string;
  /** The file to load. */
  readonly entry: string;
  readonly description: ModelDescription;
}

/** @throws CheckpointError, ExportError, UsageError; then nothing was written */
export function exportResnet({ from, to, format, what, beside, ...facts }: ExportOptions): ExportedModel {
  checkQuantization(format, facts.quantization ?? 'none');
  const { path, ...model } = readTrainedResnet(from, facts);
  const exporter = exporterOf(format);
  // What makes a model whole is the last file, and comes after whatever uses it.
  const files = [...(beside?.(model.description) ?? []), ...exporter.files(model)];
  writeExportFolder(to, files, what);
  return { checkpoint: path, entry: exporter.entry, description: model.description };
}

/** @throws UsageError for a format that has no such weights */
export function checkQuantization(format: ExportFormatName, quantization: Quantization): void {
  if (exporterOf(format).quantizations.includes(quantization)) return;
  throw new UsageError(`flag --quantize=${quantization}: --export_format=${format} has no such weights`, {
    flag: 'quantize',
    value: quantization,
    remedy: 'Leave one of the two out.',
  });
}
