/**
 * Trains upstream's Keras ResNet-50 v1.5 on ImageNet, or on one's own pictures in the same form, with `model.fit`
 * (official/resnet/keras/keras_imagenet_main.py).
 *
 *   lockstep keras-imagenet --data_dir=DIR --batch_size=32
 */
import { IMAGENET_CLASSES, openImagenet, readClassNames } from '../../data/imagenet-data.js';
import { type FlagsObject, FlagValues, setDefaults } from '../../utils/flags/core.js';
import { defineKerasFlags } from './keras-flags.js';
import { type KerasIo, type KerasProgram, runKeras } from './keras-main.js';

const PROGRAM: KerasProgram = {
  name: 'lockstep keras-imagenet',
  summary: 'Trains the Model Garden’s Keras ResNet-50 on ImageNet, or on your own pictures, with model.fit.',
  numImages: { train: 1_281_167, validation: 50_000 },
  define: defineKerasImagenetFlags,
  network: (flags) => ({
    network: 'imagenet',
    schedule: 'imagenet',
    resnetSize: 50,
    imageShape: shapeOf(flags),
    numClasses: classesOf(flags),
    // Upstream counts ImageNet's own labels from 0 and keeps 1,001 classes; one's own begin at 0 as they are.
    labelShift: classesOf(flags) === IMAGENET_CLASSES ? 1 : 0,
  }),
  open: (flags, isTraining) =>
    openImagenet({ dataDir: flags.data_dir, isTraining, numClasses: classesOf(flags), imageShape: shapeOf(flags) }),
};

const shapeOf = ({ image_size: size }: FlagsObject) => [size, size, 3] as const;

function classesOf({ data_dir: dataDir, use_synthetic_data: synthetic }: FlagsObject): number {
  return (synthetic ? null : readClassNames(dataDir))?.length ?? IMAGENET_CLASSES;
}

export function defineKerasImagenetFlags(flags: FlagValues = new FlagValues()): FlagValues {
  defineKerasFlags(flags);
  flags.DEFINE_integer({
    name: 'image_size',
    default: 224,
    lowerBound: 32,
    upperBound: 4096,
    group: 'Keras',
    key: true,
    help: 'Ours: height and width of the pictures that the network sees.',
  });
  setDefaults({ train_epochs: 90 }, flags);
  return flags;
}

/** @param argv flags, without the program's name @returns exit status: 0, 1 for a failed run, 2 for bad flags, 130 when interrupted */
export function main(argv: readonly string[], io: KerasIo = {}): Promise<number> {
  return runKeras(PROGRAM, argv, io);
}
