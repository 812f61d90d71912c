/**
 * Trains upstream's Keras ResNet on CIFAR-10 with `model.fit` (official/resnet/keras/keras_cifar_main.py).
 *
 *   lockstep keras-cifar10 --data_dir=DIR --train_epochs=10
 */
import { NUM_IMAGES, openCifar10 } from '../../data/cifar10-data.js';
import { FlagValues, setDefaults, UsageError } from '../../utils/flags/core.js';
import { cifar10Plan } from '../resnet-plan.js';
import { defineKerasFlags } from './keras-flags.js';
import { type KerasIo, type KerasProgram, runKeras } from './keras-main.js';

/** Upstream's only one. */
const RESNET_SIZE = '56';

const PROGRAM: KerasProgram = {
  name: 'lockstep keras-cifar10',
  summary: 'Trains the Model Garden’s Keras ResNet on CIFAR-10 with model.fit.',
  numImages: NUM_IMAGES,
  define: defineKerasCifarFlags,
  network: ({ resnet_size: text }) => {
    try {
      const { imageShape, numClasses } = cifar10Plan(Number(text));
      return {
        network: 'cifar10',
        schedule: 'cifar10',
        resnetSize: Number(text),
        imageShape,
        numClasses,
        labelShift: 0,
      };
    } catch (error) {
      throw new UsageError(`flag --resnet_size=${text}: ${(error as Error).message.split('\n')[0]}`, {
        flag: 'resnet_size',
        value: text,
        remedy: 'Give 6n + 2: 8, 14, 20, 32, 44, 56, 110, ….',
      });
    }
  },
  open: ({ data_dir: dataDir }, isTraining) => openCifar10(dataDir, isTraining),
};

export function defineKerasCifarFlags(flags: FlagValues = new FlagValues()): FlagValues {
  defineKerasFlags(flags);
  flags.DEFINE_string({
    name: 'resnet_size',
    shortName: 'rs',
    default: RESNET_SIZE,
    group: 'Keras',
    key: true,
    help: 'Ours: layers of the network, 6n + 2. Upstream has 56 alone.',
  });
  setDefaults(
    {
      data_dir: '/tmp/cifar10_data/cifar-10-batches-bin',
      train_epochs: 182,
      epochs_between_evals: 10,
      batch_size: 128,
    },
    flags,
  );
  return flags;
}

/** @param argv flags, without the program's name @returns exit status: 0, 1 for a failed run, 2 for bad flags, 130 when interrupted */
export function main(argv: readonly string[], io: KerasIo = {}): Promise<number> {
  return runKeras(PROGRAM, argv, io);
}
