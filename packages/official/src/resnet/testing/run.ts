/**
 * Test support: runs the CIFAR-10 main in this process on a few made-up images, and reads what it left. Not part of the
 * package.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import '../../testing/provider.js';
import { RECORD_BYTES } from '../../data/cifar10-data.js';
import { decodeTensorFile, type TensorFile } from '../../utils/checkpoint/safetensors.js';
import { Philox } from '../../utils/random/philox.js';
import { main } from '../cifar10-main.js';
import type { MainIo } from '../resnet-main.js';
import type { ResnetMainResult } from '../resnet-run-loop.js';

/** Training and test images of {@link writeData}: with a batch of 8 five steps an epoch. */
export const TRAIN_IMAGES = 40;
export const TEST_IMAGES = 16;

/** Writes a data set whose classes differ in brightness, so that a little can be learnt. */
export function writeData(folder: string): string {
  mkdirSync(folder, { recursive: true });
  const random = new Philox(7);
  const file = (count: number) => {
    const bytes = new Uint8Array(count * RECORD_BYTES);
    for (let i = 0; i < count; i++) {
      const label = random.integer(10);
      for (let b = 0; b < RECORD_BYTES; b++) bytes[i * RECORD_BYTES + b] = (b % 32) * label + random.integer(30);
      bytes[i * RECORD_BYTES] = label;
    }
    return bytes;
  };
  for (let i = 1; i <= 5; i++) writeFileSync(join(folder, `data_batch_${i}.bin`), file(TRAIN_IMAGES / 5));
  writeFileSync(join(folder, 'test_batch.bin'), file(TEST_IMAGES));
  return folder;
}

export interface TestRun {
  readonly status: number;
  /** Everything that went to the screen, errors included. */
  readonly text: string;
  readonly lines: readonly string[];
  /** Of a run that ended. */
  readonly result: ResnetMainResult | null;
}

/**
 * Runs the main. Defaults for small and repeatable runs come before `argv`.
 * @param onText is called whenever something is written.
 */
export async function run(
  argv: readonly string[],
  { seed = 1, ...io }: MainIo & { readonly seed?: number | null } = {},
  onText?: (text: string) => void,
): Promise<TestRun> {
  const seeded = seed === null ? [] : [`--seed=${seed}`];
  return await runMain(main, ['--resnet_size=8', '--batch_size=8', ...SMALL, ...seeded, ...argv], io, onText);
}

/** Of every test run. */
export const SMALL = ['--hooks=', '--intra_op_parallelism_threads=1'];

/** Runs any main. */
export async function runMain(
  program: typeof main,
  argv: readonly string[],
  io: MainIo = {},
  onText?: (text: string) => void,
): Promise<TestRun> {
  let text = '';
  const take = (more: string) => {
    text += more;
    onText?.(more);
  };
  const stream = new Writable({
    write(chunk, _encoding, done) {
      take(String(chunk));
      done();
    },
  }) as unknown as NodeJS.WriteStream;
  let result: ResnetMainResult | null = null;
  const status = await program(argv, {
    stream,
    out: take,
    err: take,
    onResult: (one) => {
      result = one;
    },
    signal: new AbortController().signal,
    ...io,
  });
  return { status, text, lines: text.split('\n'), result };
}

/** A checkpoint's tensors and metadata. */
export function readCheckpoint(modelDir: string, step: number): TensorFile {
  return decodeTensorFile(readFileSync(join(modelDir, `ckpt-${step}.safetensors`)));
}

/** Names of the tensors of two checkpoints that are not the same bits. */
export function differences(left: TensorFile, right: TensorFile): string[] {
  const bits = ({ values }: TensorFile['tensors'][string]) =>
    Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('latin1');
  const names = new Set([...Object.keys(left.tensors), ...Object.keys(right.tensors)]);
  return [...names].filter((name) => {
    const [a, b] = [left.tensors[name], right.tensors[name]];
    return !a || !b || bits(a) !== bits(b);
  });
}
