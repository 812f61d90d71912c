/**
 * Trains a ResNet on ImageNet, or on one's own pictures in the same form: upstream's official/resnet/imagenet_main.py, with its flags,
 * defaults and messages.
 *
 *   lockstep imagenet --data_dir=DIR --model_dir=DIR --resnet_size=50 --batch_size=256
 */
import { IMAGENET_CLASSES, openImagenet, readClassNames } from '../data/imagenet-data.js';
import { type SkippedRecords, skippedLines } from '../data/skipped-records.js';
import { type FlagsObject, type FlagValues, UsageError } from '../utils/flags/core.js';
import { IMAGENET_FINE_TUNE_RECIPE, IMAGENET_RECIPE } from './lr-schedule.js';
import { defineImagenetFlags } from './resnet-flags.js';
import { type MainIo, type ResnetProgram, runProgram } from './resnet-main.js';
import { imagenetPlan, type ResNetPlan } from './resnet-plan.js';

/** A run's program: it remembers what its data sets skipped. */
function imagenetProgram(): ResnetProgram {
  const skipped: SkippedRecords[] = [];
  return {
    name: 'lockstep imagenet',
    summary: 'Trains a ResNet on ImageNet or on your own pictures, as the Model Garden does.',
    dataset: 'ImageNet',
    decayExcept: 'batch_normalization',
    recipe: ({ fine_tune: fineTune }) => (fineTune ? IMAGENET_FINE_TUNE_RECIPE : IMAGENET_RECIPE),
    define: defineImagenetFlags,
    plan,
    remarks,
    open(flags, isTraining) {
      const { numClasses, imageShape } = plan(flags);
      const { data_dir: dataDir, skip_bad_records: skipBadRecords } = flags;
      const dataSet = openImagenet({ dataDir, isTraining, numClasses, imageShape, skipBadRecords });
      skipped.push(dataSet.source.skipped);
      return dataSet;
    },
    closing: () => skipped.flatMap(skippedLines),
  };
}

/** @param argv flags, without the program's name @returns exit status, as {@link runProgram} */
export function main(argv: readonly string[], io: MainIo = {}): Promise<number> {
  return runProgram(imagenetProgram(), argv, io);
}

/** @throws UsageError where the flag and the data differ about the number of classes; DataError for a labels.txt that is none */
function plan(flags: FlagsObject): ResNetPlan {
  const { resnet_size: size, resnet_version: version, image_size: imageSize } = flags;
  return imagenetPlan(Number(size), Number(version), { numClasses: classesOf(flags), imageSize });
}

function classesOf({ data_dir: dataDir, num_classes: given, use_synthetic_data: synthetic }: FlagsObject): number {
  const names = synthetic ? null : readClassNames(dataDir);
  if (names === null) return given ?? IMAGENET_CLASSES;
  if (given !== null && given !== names.length) {
    throw new UsageError(`flag --num_classes=${given}: ${dataDir}/labels.txt has ${names.length} classes`, {
      flag: 'num_classes',
      value: String(given),
      remedy: 'Leave it out.',
    });
  }
  return names.length;
}

/** Flags without effect. */
function remarks({ FLAGS }: FlagValues): string[] {
  const found: string[] = [];
  if (FLAGS.image_bytes_as_serving_input) {
    found.push(
      '--image_bytes_as_serving_input has no effect: TensorFlow.js decodes no JPEG, so an exported model takes pixels.',
    );
  }
  if (FLAGS.skip_bad_records > 0 && FLAGS.use_synthetic_data) {
    found.push(`--skip_bad_records=${FLAGS.skip_bad_records} has no effect with --use_synthetic_data.`);
  }
  if (FLAGS.enable_lars && FLAGS.lr_boundary_epochs !== null) {
    found.push('--lr_boundary_epochs has no effect with --enable_lars, which has a schedule of its own.');
  }
  return found;
}
