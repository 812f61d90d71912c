/**
 * The networks of the Model Garden as plans (official/resnet/{cifar10_main,imagenet_main,resnet_model}.py): sizes, strides and shapes, from
 * which resnet-model.ts builds them. It loads no TensorFlow.js.
 */

/** The model's default version; the flag's default is 1. */
export const DEFAULT_VERSION = 2;

/** A network's plan, in upstream's terms. */
export interface ResNetPlan {
  readonly resnetSize: number;
  readonly bottleneck: boolean;
  readonly numClasses: number;
  readonly numFilters: number;
  readonly kernelSize: number;
  readonly convStride: number;
  /** 0: no pooling after the first convolution. */
  readonly firstPoolSize: number;
  readonly firstPoolStride: number;
  readonly blockSizes: readonly number[];
  readonly blockStrides: readonly number[];
  readonly resnetVersion: number;
  /** [height, width, channels] of an image. */
  readonly imageShape: readonly [number, number, number];
}

/** The CIFAR-10 network of upstream's cifar10_main.Cifar10Model. @throws Error if the size is not 6n + 2. */
export function cifar10Plan(resnetSize: number, resnetVersion: number = DEFAULT_VERSION): ResNetPlan {
  if (resnetSize % 6 !== 2) throw new Error(`resnet_size must be 6n + 2: ${resnetSize}`);
  const blocks = (resnetSize - 2) / 6;
  if (blocks < 1) throw new Error(`resnet_size must be 6n + 2: ${resnetSize}\nhelp: the smallest network is 8.`);
  return {
    resnetSize,
    bottleneck: false,
    numClasses: 10,
    numFilters: 16,
    kernelSize: 3,
    convStride: 1,
    firstPoolSize: 0,
    firstPoolStride: 0,
    blockSizes: [blocks, blocks, blocks],
    blockStrides: [1, 2, 2],
    resnetVersion,
    imageShape: [32, 32, 3],
  };
}

const IMAGENET_BLOCKS: Readonly<Record<number, readonly number[]>> = {
  18: [2, 2, 2, 2],
  34: [3, 4, 6, 3],
  50: [3, 4, 6, 3],
  101: [3, 4, 23, 3],
  152: [3, 8, 36, 3],
  200: [3, 24, 36, 3],
};

/** The ImageNet network of upstream's imagenet_main.ImagenetModel. @throws Error if the size is none of upstream's. */
export function imagenetPlan(
  resnetSize: number,
  resnetVersion: number = DEFAULT_VERSION,
  { numClasses = 1001, imageSize = 224 }: { readonly numClasses?: number; readonly imageSize?: number } = {},
): ResNetPlan {
  const blockSizes = IMAGENET_BLOCKS[resnetSize];
  if (!blockSizes) {
    throw new Error(
      'Could not find layers for selected Resnet size.\n' +
        `Size received: ${resnetSize}; sizes allowed: ${Object.keys(IMAGENET_BLOCKS).join(', ')}.`,
    );
  }
  return {
    resnetSize,
    bottleneck: resnetSize >= 50,
    numClasses,
    numFilters: 64,
    kernelSize: 7,
    convStride: 2,
    firstPoolSize: 3,
    firstPoolStride: 2,
    blockSizes,
    blockStrides: [1, 2, 2, 2],
    resnetVersion,
    imageShape: [imageSize, imageSize, 3],
  };
}
