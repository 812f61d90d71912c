/**
 * Trains a ResNet on CIFAR-10: upstream's official/resnet/cifar10_main.py, with its flags, defaults and messages.
 *
 *   lockstep cifar10 --data_dir=DIR --model_dir=DIR --resnet_size=20 --train_epochs=10
 */
import { openCifar10 } from '../data/cifar10-data.js';
import { type FlagsObject, UsageError } from '../utils/flags/core.js';
import { CIFAR10_RECIPE } from './lr-schedule.js';
import { defineCifarFlags } from './resnet-flags.js';
import { type MainIo, type ResnetProgram, runProgram } from './resnet-main.js';
import { cifar10Plan, type ResNetPlan } from './resnet-plan.js';

/** Deeper ones would take hours to build, and nobody has trained one. */
const LARGEST_SIZE = 9998;

const CIFAR10: ResnetProgram = {
  name: 'lockstep cifar10',
  summary: 'Trains a ResNet on CIFAR-10, as the Model Garden does.',
  dataset: 'CIFAR-10',
  decayExcept: null,
  recipe: () => CIFAR10_RECIPE,
  define: defineCifarFlags,
  plan,
  refuse,
  remarks: (flags) =>
    flags.isGiven('weight_decay')
      ? [
          `--weight_decay=${flags.get('weight_decay')} has no effect: CIFAR-10 has ${CIFAR10_RECIPE.weightDecay} fixed, as upstream.`,
        ]
      : [],
  open: ({ data_dir: dataDir }, isTraining) => openCifar10(dataDir, isTraining),
};

/** @param argv flags, without the program's name @returns exit status, as {@link runProgram} */
export function main(argv: readonly string[], io: MainIo = {}): Promise<number> {
  return runProgram(CIFAR10, argv, io);
}

/** @throws UsageError for smoothed labels, which upstream ignores in silence. */
function refuse({ image_bytes_as_serving_input: imageBytes, label_smoothing: smoothing }: FlagsObject): string | null {
  if (imageBytes) {
    return '--image_bytes_as_serving_input cannot be set to True for CIFAR. This flag is only applicable to ImageNet.';
  }
  if (smoothing === 0) return null;
  throw new UsageError(`flag --label_smoothing=${smoothing}: the CIFAR-10 main does not smooth labels, as upstream`, {
    flag: 'label_smoothing',
    value: String(smoothing),
    remedy: 'Leave it out.',
  });
}

/** @throws UsageError for a size that there is not, with upstream's text where it has one. */
function plan({ resnet_size: text, resnet_version: version }: FlagsObject): ResNetPlan {
  const refuse = (why: string): never => {
    throw new UsageError(`flag --resnet_size=${text}: ${why}`, {
      flag: 'resnet_size',
      value: text,
      remedy: `Give 6n + 2: 8, 14, 20, 32, 44, 56, 110, …, at most ${LARGEST_SIZE}.`,
    });
  };
  if (!/^\d+$/.test(text)) refuse('not a number');
  if (Number(text) > LARGEST_SIZE) refuse('too large');
  try {
    return cifar10Plan(Number(text), Number(version));
  } catch (error) {
    return refuse((error as Error).message.split('\n')[0] as string);
  }
}
