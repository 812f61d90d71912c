/**
 * Makes ImageNet's TFRecord shards of folders of pictures, with labels.txt: `lockstep make-imagenet-records DIR OUT`. What is a plain
 * JPEG goes in as it is, as upstream's; everything else becomes one: PNG, WebP, CMYK, 16 bits, pictures that a camera holds turned,
 * and those that are larger than any training needs. Every picture is decoded once, so that none fails in training; those that cannot
 * be are named and left out. Nothing takes its final name before it is whole.
 */
import { existsSync, readdirSync, renameSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import type { Progress } from '@lockstep/distribute/progress';
import { reasonOf } from '../utils/files/file-errors.js';
import { makeFolder } from '../utils/files/make-folder.js';
import { DataError } from './data-error.js';
import { encodeExample, type Feature } from './example.js';
import { DECODING, ImageError, imageError, loadSharp } from './image.js';
import { LABELS_FILE, shardName } from './imagenet-data.js';
import { findPictures, type Picture, type PictureFolders } from './picture-folders.js';
import { writeLengths } from './record-lengths.js';
import { RecordWriter } from './tfrecord.js';

/** Of JPEGs that are made here, with full colour resolution. */
const QUALITY = 95;
/** A shard of ImageNet has 1,251. */
const PICTURES_PER_SHARD = 1250;
/** Side of what is decoded to see whether a picture can be: a JPEG is read to its end all the same. */
const PROBE = 8;
export const UNREADABLE_FILE = 'unreadable.txt';
export const BACKGROUND = 'background';

export interface MakeRecordsOptions {
  /** Of each class, where DIR does not say what is held out. Default 0.1. */
  readonly validationFraction?: number;
  /** Default: one for each 1,250 pictures. */
  readonly trainShards?: number | null;
  readonly validationShards?: number | null;
  /** Larger pictures are reduced until their shorter side has so many pixels; 0 keeps all. Default 512. */
  readonly shorterSide?: number;
  /** Label 0 is for none of the classes, as ImageNet's; they begin at 1. Default false. */
  readonly backgroundClass?: boolean;
  /** Default 0. */
  readonly seed?: number;
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
}

/** What was made. */
export interface MadeRecords {
  readonly classes: readonly string[];
  readonly train: { readonly count: number; readonly shards: number };
  readonly validation: { readonly count: number; readonly shards: number };
  /** With the reason. */
  readonly unreadable: readonly { readonly path: string; readonly why: string }[];
  /** Pictures that were not stored as they were. */
  readonly converted: number;
  /** Files that are no pictures by their names. */
  readonly others: number;
}

/**
 * @param dir as findPictures takes it @param out new, or empty
 * @throws DataError where there is nothing to make, OUT is taken, or no picture of a split or class can be read; the signal's reason
 * where it ends this. Then OUT is as it was.
 */
export async function makeImagenetRecords(
  dir: string,
  out: string,
  options: MakeRecordsOptions = {},
): Promise<MadeRecords> {
  const { validationFraction = 0.1, backgroundClass = false, seed = 0 } = options;
  requireFree(out);
  const folders = findPictures(dir, { validationFraction, seed });
  const target = resolve(out);
  const temporary = join(dirname(target), `.${basename(target)}.${process.pid}.tmp`);
  try {
    naming(out, () => makeFolder(temporary));
    const work = new Work(dir, temporary, folders, options);
    const made = await work.run();
    const names = backgroundClass ? [BACKGROUND, ...folders.classes] : folders.classes;
    naming(out, () => {
      writeFileSync(join(temporary, LABELS_FILE), `${names.join('\n')}\n`);
      if (made.unreadable.length > 0) {
        const lines = made.unreadable.map(({ path, why }) => `${path}: ${why}\n`);
        writeFileSync(join(temporary, UNREADABLE_FILE), lines.join(''));
      }
      if (existsSync(target)) rmdirSync(target);
      renameSync(temporary, target);
    });
    return made;
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** One call's. */
class Work {
  readonly #unreadable: { path: string; why: string }[] = [];
  /** Training pictures by class. */
  readonly #trained: number[];
  #converted = 0;
  #done = 0;

  constructor(
    private readonly dir: string,
    private readonly target: string,
    private readonly folders: PictureFolders,
    private readonly options: MakeRecordsOptions,
  ) {
    this.#trained = folders.classes.map(() => 0);
  }

  async run(): Promise<MadeRecords> {
    const { folders, options } = this;
    const train = await this.#split('train', folders.train, options.trainShards ?? null);
    const validation = await this.#split('validation', folders.validation, options.validationShards ?? null);
    const empty = this.#trained.indexOf(0);
    if (empty >= 0 || validation.count === 0) {
      const [first] = this.#unreadable;
      throw new DataError(
        `${empty >= 0 ? `No picture of ${join(this.dir, folders.classes[empty] as string)}` : 'No picture to validate with'} can be read` +
          `${first ? `: ${first.path}: ${first.why}` : ''}.\nhelp: see what these files are.`,
      );
    }
    return {
      classes: folders.classes,
      train,
      validation,
      unreadable: this.#unreadable.sort((a, b) => (a.path < b.path ? -1 : 1)),
      converted: this.#converted,
      others: folders.others,
    };
  }

  async #split(
    split: 'train' | 'validation',
    pictures: readonly Picture[],
    wanted: number | null,
  ): Promise<{ count: number; shards: number }> {
    const shards = Math.min(pictures.length, wanted ?? Math.ceil(pictures.length / PICTURES_PER_SHARD));
    const lengths: number[] = [];
    for (let shard = 0; shard < shards; shard++) {
      const begin = Math.floor((pictures.length * shard) / shards);
      const end = Math.floor((pictures.length * (shard + 1)) / shards);
      const writer = new RecordWriter(join(this.target, shardName(split, shard, shards)));
      try {
        for await (const [picture, record] of this.#records(pictures.slice(begin, end))) {
          writer.write(record);
          lengths.push(record.length);
          if (split === 'train') (this.#trained[picture.index] as number)++;
        }
      } finally {
        writer.close();
      }
    }
    naming(this.target, () => writeLengths(this.target, split, lengths));
    return { count: lengths.length, shards };
  }

  /** In order, some ahead of the one that is wanted; those that can be read. */
  async *#records(pictures: readonly Picture[]): AsyncGenerator<[Picture, Uint8Array]> {
    const ahead = 2 * availableParallelism();
    const begun: Promise<Uint8Array | null>[] = [];
    try {
      for (const [i, picture] of pictures.entries()) {
        this.options.signal?.throwIfAborted();
        for (let next = begun.length; next < Math.min(pictures.length, i + ahead); next++) {
          const promise = this.#record(pictures[next] as Picture);
          // It is waited for later; until then a failure is nobody's.
          promise.catch(() => {});
          begun.push(promise);
        }
        const record = await (begun[i] as Promise<Uint8Array | null>);
        // The array keeps its length; memory is given back.
        begun[i] = Promise.resolve(null);
        this.#done++;
        this.#show();
        if (record) yield [picture, record];
      }
    } finally {
      await Promise.allSettled(begun);
    }
  }

  #show(): void {
    const steps = this.folders.train.length + this.folders.validation.length;
    const bad = this.#unreadable.length;
    this.options.progress?.update({
      step: this.#done,
      steps,
      figures: (left) => [
        { text: `${this.#done}/${steps} pictures`, wanted: 1, widest: `${steps}/${steps} pictures`.length },
        ...(bad > 0 ? [{ text: `${bad} unreadable`, wanted: 3 }] : []),
        { text: left, wanted: 2, widest: '1m 30s left'.length },
      ],
    });
  }

  /** @returns null where the picture cannot be read, which is noted */
  async #record({ path, index }: Picture): Promise<Uint8Array | null> {
    try {
      const bytes = await readFile(path);
      const { encoded, width, height, isConverted } = await toJpeg(bytes, this.options.shorterSide ?? 512);
      if (isConverted) this.#converted++;
      const name = this.folders.classes[index] as string;
      return encodeExample({
        'image/height': integer(height),
        'image/width': integer(width),
        'image/colorspace': text('RGB'),
        'image/channels': integer(3),
        'image/class/label': integer(index + (this.options.backgroundClass ? 1 : 0)),
        'image/class/synset': text(name),
        'image/class/text': text(name),
        'image/format': text('JPEG'),
        'image/filename': text(relative(this.dir, path)),
        'image/encoded': { kind: 'bytes', values: [encoded] },
      });
    } catch (error) {
      if (!(error instanceof ImageError) && (error as NodeJS.ErrnoException).code === undefined) throw error;
      this.#unreadable.push({ path, why: error instanceof ImageError ? error.message : reasonOf(error) });
      return null;
    }
  }
}

/**
 * A picture as it goes into a record.
 * @throws ImageError if it cannot be decoded
 */
export async function toJpeg(
  bytes: Uint8Array,
  shorterSide: number,
): Promise<{ encoded: Uint8Array; width: number; height: number; isConverted: boolean }> {
  const sharp = await loadSharp();
  try {
    const { format, orientation = 1, width, height, space, depth } = await sharp(bytes, DECODING).metadata();
    const isLarge = shorterSide > 0 && Math.min(width, height) > shorterSide;
    const isPlain =
      format === 'jpeg' && orientation === 1 && (space === 'srgb' || space === 'b-w') && depth === 'uchar';
    if (isPlain && !isLarge) {
      await sharp(bytes, DECODING).resize(PROBE, PROBE, { fit: 'fill' }).raw().toBuffer();
      return { encoded: bytes, width, height, isConverted: false };
    }
    const upright = sharp(bytes, { ...DECODING, ignoreIcc: false }).autoOrient();
    if (isLarge) upright.resize({ width: shorterSide, height: shorterSide, fit: 'outside', withoutEnlargement: true });
    const { data, info } = await upright
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb')
      .jpeg({ quality: QUALITY, chromaSubsampling: '4:4:4' })
      .toBuffer({ resolveWithObject: true });
    return { encoded: data, width: info.width, height: info.height, isConverted: true };
  } catch (error) {
    throw imageError(error);
  }
}

const integer = (value: number): Feature => ({ kind: 'int64', values: [BigInt(value)] });
const text = (value: string): Feature => ({ kind: 'bytes', values: [Buffer.from(value)] });

function requireFree(out: string): void {
  naming(out, () => {
    const stats = statSync(out, { throwIfNoEntry: false });
    if (!stats || (stats.isDirectory() && readdirSync(out).length === 0)) return;
    throw new DataError(`${out} is there already. Nothing was written.\nhelp: name a new folder, or remove it.`);
  });
}

function naming<T>(out: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(`${out} cannot be written: ${reasonOf(error)}.\nhelp: name a folder that you may write to.`, {
      cause: error,
    });
  }
}
