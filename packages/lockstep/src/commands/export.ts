/** `lockstep export MODEL_DIR OUT`: the model of a finished run for browsers and other programs. It needs no backend and no data. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { classNamesIn } from '@lockstep/official/resnet/export/class-names';
import { type ExportedModel, exportResnet } from '@lockstep/official/resnet/export/export-resnet';
import type { Quantization } from '@lockstep/official/utils/export/export';
import type { ExportFormatName } from '@lockstep/official/utils/export/formats';
import { FlagValues, UsageError } from '@lockstep/official/utils/flags/core';
import { defineLockstep } from '@lockstep/official/utils/flags/lockstep';
import { operandMain } from '../flag-main.js';
import { pageFiles } from '../web/classifier/page-files.js';

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return operandMain(
    argv,
    flags,
    { count: 2, what: 'a model and a folder', remedy: 'Write `lockstep export MODEL_DIR OUT`.' },
    (from: string, to: string) => {
      process.stdout.write(`${describe(to, write(from, to, flags))}\n`);
      return 0;
    },
  );
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep export',
    summary:
      'Writes a trained model for browsers and other programs: MODEL_DIR (or one of its checkpoints) becomes the new folder OUT.',
    examples: [
      'lockstep export model web-model',
      'lockstep export model web-model --quantize=uint8 --page',
      'lockstep export model/ckpt-1689.safetensors for-python --export_format=safetensors',
    ],
  });
  const key = true;
  flags.DEFINE_string({
    name: 'data_dir',
    default: null,
    key,
    help: 'Folder of the data that the model was trained on, for the names of the classes. A checkpoint of this version knows them itself.',
  });
  flags.DEFINE_integer({
    name: 'image_size',
    default: null,
    lowerBound: 32,
    upperBound: 4096,
    key,
    help: "Height and width of an ImageNet model's pictures. A checkpoint of this version knows it itself; the default for others is 224.",
  });
  flags.DEFINE_bool({
    name: 'page',
    default: false,
    key,
    help: 'Write a page beside the model that uses it: any web server can serve the folder.',
  });
  const others = ['num_cpus', 'gradient_dtype', 'workers', 'seed', 'backend', 'checkpoints', 'progress', 'color'];
  defineLockstep(flags, Object.fromEntries(others.map((name) => [name, false])));
  return flags;
}

function write(from: string, to: string, flags: FlagValues): ExportedModel {
  const value = <T>(name: string) => flags.get(name as never) as unknown as T;
  const dataDir = value<string | null>('data_dir');
  const format = value<ExportFormatName>('export_format');
  if (value<boolean>('page') && format !== 'tfjs') {
    throw new UsageError(`flag --page: a page needs --export_format=tfjs, not ${format}`, {
      flag: 'page',
      value: 'true',
      remedy: 'Leave one of the two out.',
    });
  }
  return exportResnet({
    from,
    to,
    format,
    quantization: value<Quantization>('quantize'),
    imageSize: value<number | null>('image_size'),
    ...(dataDir !== null && { labels: classNamesIn(dataDir) }),
    what: 'OUT',
    ...(value<boolean>('page') && { beside: pageFiles }),
  });
}

function describe(to: string, { checkpoint, entry, description }: ExportedModel): string {
  const { model, output, labels, input } = description;
  const bytes = readdirSync(to).reduce((sum, name) => sum + statSync(join(to, name)).size, 0);
  const size = bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
  const names = labels === null ? ', whose names are not known: --data_dir=… knows them' : '';
  return [
    `Wrote ${join(to, entry)} (${size} with its weights): ${model} from ${checkpoint},`,
    `for pictures of ${input.shape.slice(0, 2).join(' × ')} in ${output.classes} classes${names}.`,
  ].join('\n');
}
