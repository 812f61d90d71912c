/**
 * How the official ResNet's variables are called in TensorFlow's checkpoints, and what such a checkpoint that is not from here says of its run.
 * Weights and moving statistics have the same names, shapes and order of dimensions in both (kernels [height, width, in, out], `conv2d`,
 * `conv2d_1`, … in the order of their making, below `resnet_model/`); an optimizer's slots have its name there, and the slot's here.
 */
import { type StoredTensor, type TensorFile, TensorFileError } from '../utils/checkpoint/safetensors.js';
import { quoted } from '../utils/files/quoted.js';

/** Endings of slots here and there. MomentumOptimizer calls its accumulator by its own name, and so does LARSOptimizer. */
const SLOTS: readonly (readonly [ours: string, theirs: string])[] = [
  ['/momentum', '/Momentum'],
  ['/momentum', '/LARSOptimizer'],
];

/** `origin` in the metadata of a checkpoint that TensorFlow wrote. */
export const TENSORFLOW_ORIGIN = 'tensorflow';

/** A checkpoint's content under TensorFlow's names. */
export function toTensorFlow({ tensors, metadata }: TensorFile): TensorFile {
  return { tensors: renamed(tensors, 0, 1), metadata };
}

/**
 * A checkpoint's content under the names that a run here gives it. One of TensorFlow's own gets the metadata that follow from it: step, size
 * and version, and that nothing is known of epochs and seed.
 * @throws TensorFileError if it is none of the official ResNet's
 */
export function fromTensorFlow({ tensors, metadata }: TensorFile): TensorFile {
  const named = renamed(tensors, 1, 0);
  return { tensors: named, metadata: metadata.format === undefined ? { ...metadata, ...describe(named) } : metadata };
}

function renamed(tensors: TensorFile['tensors'], from: 0 | 1, to: 0 | 1): Record<string, StoredTensor> {
  const entries = Object.entries(tensors).map(([name, tensor]) => {
    const slot = SLOTS.find((one) => name.endsWith(one[from]));
    return [slot ? name.slice(0, -slot[from].length) + slot[to] : name, tensor] as const;
  });
  return Object.fromEntries(entries);
}

const FIRST_KERNEL = 'resnet_model/conv2d/kernel';

function describe(tensors: Readonly<Record<string, StoredTensor>>): Record<string, string> {
  const names = Object.keys(tensors);
  const first = Object.hasOwn(tensors, FIRST_KERNEL) ? tensors[FIRST_KERNEL] : undefined;
  if (!first) {
    const has = names[0] === undefined ? 'no variable' : `${quoted(names[0])} and ${names.length - 1} others`;
    throw new TensorFileError(`has ${has}, but no ${FIRST_KERNEL}: it is none of the official ResNet's`);
  }
  const count = (pattern: RegExp) => names.filter((name) => pattern.test(name)).length;
  const convolutions = count(/^resnet_model\/conv2d(_\d+)?\/kernel$/);
  const norms = count(/^resnet_model\/batch_normalization(_\d+)?\/gamma$/);
  // Of the layers with weights, those of the blocks, the first convolution and the dense layer are counted in a size, and projections, one
  // for each of CIFAR's three block layers and of ImageNet's four, are not. Version 1 normalizes each of them, version 2 none.
  const projections = first.shape[0] === 7 ? 4 : 3;
  return {
    origin: TENSORFLOW_ORIGIN,
    resnet_size: String(convolutions - projections + 1),
    resnet_version: norms === convolutions ? '1' : '2',
  };
}
