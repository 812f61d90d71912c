/**
 * The reader of ImageNet: from a record to the pixels that training or evaluation sees (upstream's imagenet_main.parse_record). It waits
 * for the disk and for the decoder, so it runs in the input pipeline's threads, where all images of a batch are on their way at once.
 * What is drawn at random depends on (seed, epoch, example) alone.
 */
import { quoted } from '../utils/files/quoted.js';
import { Philox } from '../utils/random/philox.js';
import { DataError } from './data-error.js';
import type { ExampleReader, ReaderOptions } from './data-set.js';
import { decodeExample, type Example } from './example.js';
import { type DecodedImage, decodeImage, ImageError, loadSharp } from './image.js';
import { type ImagenetSource, placeOf } from './imagenet-data.js';
import { boxView, centralView, type ObjectBox, sampleDistortedBox, type View } from './imagenet-preprocessing.js';
import { skipRecord } from './skipped-records.js';
import { readRecord } from './tfrecord.js';

/** Keeps the boxes' random numbers apart from others of the seed. */
const BOX_STREAM = 4;

const ENCODED = 'image/encoded';
const LABEL = 'image/class/label';
const FILE_NAME = 'image/filename';
/** Upper, left, lower and right sides of the objects. */
const SIDES = ['ymin', 'xmin', 'ymax', 'xmax'].map((side) => `image/object/bbox/${side}`);
const WANTED: ReadonlySet<string> = new Set([ENCODED, LABEL, FILE_NAME, ...SIDES]);

/** @param source {@link ImagenetSource} */
export default async function imagenetReader(source: unknown, options: ReaderOptions): Promise<ExampleReader> {
  // What is missing is missing before the first batch.
  await loadSharp();
  return new ImagenetReader(source as ImagenetSource, options);
}

class ImagenetReader implements ExampleReader {
  constructor(
    private readonly source: ImagenetSource,
    private readonly options: ReaderOptions,
  ) {}

  /** @throws DataError naming file, offset and picture; with --skip_bad_records only after so many. The next one takes its place */
  async read(
    { example, epoch }: { example: number; epoch: number },
    target: Float32Array,
    offset: number,
  ): Promise<number> {
    const { offsets, skipped } = this.source;
    for (let tried = 0; ; tried++) {
      const record = (example + tried) % offsets.length;
      try {
        return await this.#readOne(record, epoch, target, offset);
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        const [why] = error.message.split('\n') as [string];
        if (skipRecord(skipped, record, why) && tried < offsets.length) continue;
        throw new DataError(
          `${why}${skipped.limit > 0 ? `\nIt is one more than the ${skipped.limit} that --skip_bad_records allows.` : ''}\n` +
            `help: make the records again, or go on without such records: --skip_bad_records=${Math.max(10, 2 * skipped.limit)}.`,
          { cause: error },
        );
      }
    }
  }

  async #readOne(record: number, epoch: number, target: Float32Array, offset: number): Promise<number> {
    const place = placeOf(this.source, record);
    const bytes = await readRecord(place.file, place);
    /** @throws DataError always */
    const wrong = (what: string, cause?: unknown): never => {
      throw new DataError(`${place.file}: the record at offset ${place.offset} ${what}.`, { cause });
    };
    let example: Example;
    try {
      example = decodeExample(bytes, WANTED);
    } catch (error) {
      return wrong('is no tf.Example', error);
    }
    const encoded = example.get(ENCODED);
    if (encoded?.kind !== 'bytes' || encoded.values.length !== 1) return wrong(`has no ${ENCODED}`);
    const labels = example.get(LABEL);
    if (labels?.kind !== 'int64' || labels.values.length !== 1) return wrong(`has no ${LABEL}`);
    const label = Number(labels.values[0]);
    const { numClasses } = this.source;
    if (!(label >= 0 && label < numClasses)) return wrong(`has label ${label}, which is not in 0..${numClasses - 1}`);
    let view: View | undefined;
    let image: DecodedImage;
    try {
      image = await decodeImage(encoded.values[0] as Uint8Array, (size) => {
        view = this.#viewOf(size, example, record, epoch);
        return view.box;
      });
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      return wrong(`has a picture${nameOf(example)} that cannot be decoded: ${error.message}`, error);
    }
    (view as View).write(image, target, offset);
    return label;
  }

  #viewOf(image: { height: number; width: number }, example: Example, record: number, epoch: number): View {
    const { size } = this.source;
    const { seed, isTraining, randomFlip } = this.options;
    if (!isTraining) return centralView(image, size);
    const random = new Philox(seed, [BOX_STREAM, epoch, record]);
    const flip = random.uniform() < 0.5;
    return boxView(sampleDistortedBox(image, objectsOf(example), random), size, flip && randomFlip);
  }
}

function objectsOf(example: Example): ObjectBox[] {
  const sides = SIDES.map((name) => {
    const feature = example.get(name);
    return feature?.kind === 'float' ? feature.values : [];
  });
  const count = Math.min(...sides.map(({ length }) => length));
  return Array.from({ length: count }, (_, i) => {
    const [top, left, bottom, right] = sides.map((side) => side[i]) as [number, number, number, number];
    return { top, left, bottom, right };
  });
}

function nameOf(example: Example): string {
  const name = example.get(FILE_NAME);
  if (name?.kind !== 'bytes' || !name.values[0]?.length) return '';
  return ` ${quoted(new TextDecoder().decode(name.values[0]))}`;
}
