/** `lockstep make-imagenet-records DIR OUT`: folders of pictures, one for each class, become the shards that `lockstep imagenet` reads. */
import { createProgress, progressStyle, useColor } from '@lockstep/distribute/progress';
import { type MadeRecords, makeImagenetRecords, UNREADABLE_FILE } from '@lockstep/official/data/make-imagenet-records';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { defineLockstep } from '@lockstep/official/utils/flags/lockstep';
import { INTERRUPTED } from '@lockstep/official/utils/misc/interrupt';
import { operandMain } from '../flag-main.js';

/** Of those that cannot be read. */
const NAMED = 10;

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return operandMain(
    argv,
    flags,
    { count: 2, what: 'two folders', remedy: 'Write `lockstep make-imagenet-records PICTURES RECORDS`.' },
    (dir: string, out: string) => {
      return make(dir, out, flags);
    },
  );
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep make-imagenet-records',
    summary:
      'Makes TFRecord shards of pictures (JPEG, PNG, WebP) in folders, one for each class: PICTURES/<class>/…, or PICTURES/train/<class>/… and PICTURES/validation/<class>/….',
    examples: [
      'lockstep make-imagenet-records pictures records',
      'lockstep make-imagenet-records imagenet records --background_class --shorter_side=0 --train_shards=1024 --validation_shards=128',
    ],
  });
  const key = true;
  flags.DEFINE_float({
    name: 'validation_fraction',
    default: 0.1,
    lowerBound: 0,
    upperBound: 0.9,
    key,
    help: 'Part of each class that is held out to validate with, where PICTURES has no folder `validation`.',
  });
  for (const [name, split] of [
    ['train_shards', 'training'],
    ['validation_shards', 'validation'],
  ] as const) {
    flags.DEFINE_integer({
      name,
      default: null,
      lowerBound: 1,
      upperBound: 99_999,
      key,
      help: `Files of ${split} pictures. Without the flag one for each 1,250 pictures.`,
    });
  }
  flags.DEFINE_integer({
    name: 'shorter_side',
    default: 512,
    lowerBound: 0,
    key,
    help: 'Reduce pictures whose shorter side has more pixels than this to it: training decodes every picture in every epoch. 0 keeps all sizes.',
  });
  flags.DEFINE_bool({
    name: 'background_class',
    default: false,
    key,
    help: 'Keep label 0 for none of the classes, as ImageNet’s 1001 do.',
  });
  flags.DEFINE_integer({
    name: 'seed',
    default: 0,
    lowerBound: 0,
    key,
    help: 'Which pictures are held out, and the order of all.',
  });
  const all = ['num_cpus', 'gradient_dtype', 'workers', 'seed', 'backend', 'checkpoints', 'export'] as const;
  defineLockstep(flags, Object.fromEntries(all.map((name) => [name, false])));
  return flags;
}

async function make(dir: string, out: string, flags: FlagValues): Promise<number> {
  const value = <T>(name: string) => flags.get(name as never) as unknown as T;
  const progress = createProgress({
    style: progressStyle(value('progress'), process.stderr),
    color: useColor(value('color'), process.stderr),
  });
  const interrupt = new AbortController();
  const stop = () => interrupt.abort(new Error('Interrupted: nothing was written.'));
  // A second one ends the process.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
  try {
    const made = await makeImagenetRecords(dir, out, {
      validationFraction: value('validation_fraction'),
      trainShards: value('train_shards'),
      validationShards: value('validation_shards'),
      shorterSide: value('shorter_side'),
      backgroundClass: value('background_class'),
      seed: value('seed'),
      progress,
      signal: interrupt.signal,
    });
    progress.finish();
    process.stdout.write(`${describe(out, made).join('\n')}\n`);
    return 0;
  } catch (error) {
    progress.finish();
    if (error !== interrupt.signal.reason) throw error;
    process.stderr.write(`${(error as Error).message}\n`);
    return INTERRUPTED;
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, stop);
  }
}

function describe(out: string, { classes, train, validation, unreadable, converted, others }: MadeRecords): string[] {
  const number = (count: number) => count.toLocaleString('en-US');
  const files = ({ count, shards }: MadeRecords['train']) =>
    `${number(count)} pictures in ${number(shards)} file${shards === 1 ? '' : 's'}`;
  const bad = unreadable.slice(0, NAMED).map(({ path, why }) => `  ${path}: ${why}`);
  return [
    `Wrote ${out}: ${files(train)} to train on, ${files(validation)} to validate, ${number(classes.length)} classes.`,
    ...(converted > 0 ? [`${number(converted)} were made JPEGs, turned upright or reduced.`] : []),
    ...(others > 0 ? [`${number(others)} other files are no pictures by their names.`] : []),
    ...(unreadable.length > 0 ? [`${number(unreadable.length)} could not be read and are left out:`, ...bad] : []),
    ...(unreadable.length > NAMED ? [`  all of them: ${out}/${UNREADABLE_FILE}`] : []),
    '',
    `Next: lockstep imagenet --data_dir=${out} --model_dir=model --resnet_size=18`,
  ];
}
