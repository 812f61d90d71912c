/**
 * The reader of CIFAR-10: from a record to a training or evaluation image (upstream's cifar10_main.preprocess_image): zero padding of four
 * pixels on each side, a random 32×32 crop, a random horizontal flip, then per-image standardization. Evaluation only
 * standardizes. What is drawn depends on (seed, epoch, example) alone, so it is the same however work is split.
 */
import { philox4x32 } from '../utils/random/philox.js';
import { CHANNELS, type Cifar10Source, HEIGHT, IMAGE_BYTES, RECORD_BYTES, WIDTH } from './cifar10-data.js';
import type { ExampleReader, ReaderOptions } from './data-set.js';

const PADDING = 4;
const OFFSETS = 2 * PADDING + 1;
const PLANE = HEIGHT * WIDTH;
/** Keeps augmentation's random numbers apart from those of shuffling and initialization. */
const AUGMENTATION_STREAM = 2;

/** What augmentation drew for one image: the crop's corner in the padded image (0..8), and whether to mirror it. */
export interface Augmentation {
  readonly top: number;
  readonly left: number;
  readonly flip: boolean;
}

const CENTRE: Augmentation = { top: PADDING, left: PADDING, flip: false };

/** The draw for an example of an epoch; `mayFlip` false leaves the rest of the draw as it was. */
export function drawAugmentation(seed: number, epoch: number, example: number, mayFlip = true): Augmentation {
  const words = philox4x32(
    [example >>> 0, epoch >>> 0, 0, AUGMENTATION_STREAM],
    [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0],
    new Uint32Array(4),
  );
  return {
    top: (words[0] as number) % OFFSETS,
    left: (words[1] as number) % OFFSETS,
    flip: mayFlip && ((words[2] as number) & 1) === 1,
  };
}

/**
 * Writes image `example` as height × width × channels floats, standardized: (x − mean) / max(deviation, 1/√3072).
 * @param offset first element in `out`
 */
export function prepareImage(
  records: Uint8Array,
  example: number,
  out: Float32Array,
  offset: number,
  { top, left, flip }: Augmentation = CENTRE,
): void {
  const image = example * RECORD_BYTES + 1;
  const shiftY = top - PADDING;
  const shiftX = left - PADDING;
  const direction = flip ? -1 : 1;
  const firstX = flip ? WIDTH - 1 : 0;
  let sum = 0;
  let squares = 0;
  for (let y = 0; y < HEIGHT; y++) {
    const sourceY = y + shiftY;
    let at = offset + y * WIDTH * CHANNELS;
    if (sourceY < 0 || sourceY >= HEIGHT) {
      out.fill(0, at, at + WIDTH * CHANNELS);
      continue;
    }
    const row = image + sourceY * WIDTH;
    for (let x = 0; x < WIDTH; x++, at += CHANNELS) {
      const sourceX = firstX + direction * x + shiftX;
      if (sourceX < 0 || sourceX >= WIDTH) {
        out[at] = 0;
        out[at + 1] = 0;
        out[at + 2] = 0;
        continue;
      }
      const red = records[row + sourceX] as number;
      const green = records[row + sourceX + PLANE] as number;
      const blue = records[row + sourceX + 2 * PLANE] as number;
      out[at] = red;
      out[at + 1] = green;
      out[at + 2] = blue;
      sum += red + green + blue;
      squares += red * red + green * green + blue * blue;
    }
  }
  // Sums of bytes and of their squares are exact integers, so this is the variance to the last bit of f64.
  const mean = sum / IMAGE_BYTES;
  const deviation = Math.sqrt(Math.max(0, squares / IMAGE_BYTES - mean * mean));
  const scale = 1 / Math.max(deviation, 1 / Math.sqrt(IMAGE_BYTES));
  const end = offset + IMAGE_BYTES;
  for (let i = offset; i < end; i++) out[i] = ((out[i] as number) - mean) * scale;
}

/** Reads records as training or evaluation sees them. @param source {@link Cifar10Source} */
export default function cifar10Reader(source: unknown, { seed, isTraining, randomFlip }: ReaderOptions): ExampleReader {
  const { records } = source as Cifar10Source;
  return {
    read({ example, epoch }, target, offset) {
      const augmentation = isTraining ? drawAugmentation(seed, epoch, example, randomFlip) : CENTRE;
      prepareImage(records, example, target, offset, augmentation);
      return labelOf(records, example);
    },
  };
}

/** The label byte of a record. */
export function labelOf(records: Uint8Array, example: number): number {
  return records[example * RECORD_BYTES] as number;
}
