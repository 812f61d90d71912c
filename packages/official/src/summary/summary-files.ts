/**
 * TensorBoard's files for programs of one's own: a sink for what replicas tell by `context.summary`, and a callback for `model.fit`, which
 * TensorFlow.js has in tfjs-node alone. Both write the event files that the official mains write.
 */

import path from 'node:path';
import type { SummaryEvent, SummarySink } from '@lockstep/distribute';
import type { Scalar } from '@tensorflow/tfjs-core';
import { CustomCallback, type CustomCallbackArgs } from '@tensorflow/tfjs-layers';
import { makeFolder } from '../utils/files/make-folder.js';
import { histogramOf } from '../utils/logs/histogram.js';
import { EventFileWriter } from './event-file.js';
import { encodePng } from './png.js';

/** Where summaries go on the main thread. */
export interface SummaryFiles extends SummarySink {
  /** Writes what is there; by itself it does so every two seconds. */
  flush(): void;
  /** The run is over; a second time without effect. */
  close(): void;
}

/**
 * For `strategy.run(…, { summary })`: writes into a folder, which is made.
 *
 * @param warn told once, where the file cannot be written; nothing is thrown then. Default: standard error.
 * @throws Error where the folder cannot be made
 * @example
 * const summary = summaryFiles('logs/run1');
 * await strategy.run(new URL('./replica.js', import.meta.url), {}, { summary });
 * summary.close();
 */
export function summaryFiles(folder: string, warn: (line: string) => void = console.error): SummaryFiles {
  const writer = openWriter(folder, warn);
  return {
    add({ step, scalars = {}, texts = {}, values = {}, pictures = {} }: SummaryEvent) {
      const histograms = mapped(values, (numbers) => histogramOf(numbers));
      const images = mapped(pictures, ({ pixels, shape }) => encodePng(pixels, shape));
      writer.add({ step, scalars, texts, histograms, images });
    },
    flush: () => writer.flush(),
    close: () => writer.close(),
  };
}

function mapped<T, R>(record: Readonly<Record<string, T>>, change: (value: T) => R): Record<string, R> {
  return Object.fromEntries(Object.entries(record).map(([tag, value]) => [tag, change(value)]));
}

function openWriter(folder: string, warn: (line: string) => void): EventFileWriter {
  makeFolder(folder);
  return new EventFileWriter(folder, { warn });
}

export interface TensorBoardOptions {
  /** Folder of the run; its parts `train` and `val` are made when they are needed, as tfjs-node's. */
  readonly logDir: string;
  /** Beside the figures of each epoch (`epoch_loss`, …) those of each batch (`batch_loss`, …). Default `epoch`. */
  readonly updateFreq?: 'epoch' | 'batch';
  /** In a replica, its context: the first one writes for all. */
  readonly context?: { readonly replicaIdInSyncGroup: number; readonly inputPipelineId: number };
  /** Default: standard error. */
  readonly warn?: (line: string) => void;
}

type Logs = Readonly<Record<string, number | Scalar>>;

/** Counts and sizes that TensorFlow.js puts among the figures. */
const NO_FIGURES: ReadonlySet<string> = new Set(['batch', 'size']);
const VALIDATION = 'val_';

/**
 * For `callbacks` of `model.fit`: writes losses and metrics, those of validation into a folder of their own, so that TensorBoard draws
 * both in one plot. The tags are those of `tf.node.tensorBoard`.
 *
 * @throws TypeError without a folder, or for another `updateFreq`; Error where the folder cannot be made
 * @example await model.fit(x, y, { epochs: 5, verbose: 0, callbacks: tensorBoard({ logDir: 'logs/run1' }) });
 */
export function tensorBoard({
  logDir,
  updateFreq = 'epoch',
  context,
  warn = console.error,
}: TensorBoardOptions): CustomCallback {
  if (typeof logDir !== 'string' || logDir === '') {
    throw new TypeError(
      `tensorBoard() needs a folder for its files, got ${logDir}.\nhelp: tensorBoard({ logDir: 'logs/run1' }).`,
    );
  }
  if (updateFreq !== 'epoch' && updateFreq !== 'batch') {
    throw new TypeError(`updateFreq is 'epoch' or 'batch', got ${updateFreq}.`);
  }
  const isSilent = context !== undefined && (context.replicaIdInSyncGroup > 0 || context.inputPipelineId > 0);
  if (isSilent) return new CustomCallback({ onTrainBegin: async () => {} });
  // What is wrong with the folder is said before anything is trained.
  makeFolder(logDir);
  const writers = new Map<'train' | 'val', EventFileWriter>();
  let batches = 0;
  const write = async (prefix: string, logs: Logs | undefined, step: number): Promise<void> => {
    for (const [name, value] of Object.entries(logs ?? {})) {
      if (NO_FIGURES.has(name)) continue;
      const figure = typeof value === 'number' ? value : ((await value.data())[0] as number);
      const part = name.startsWith(VALIDATION) ? 'val' : 'train';
      const writer = writers.get(part) ?? openWriter(path.join(logDir, part), warn);
      writers.set(part, writer);
      const tag = `${prefix}_${part === 'val' ? name.slice(VALIDATION.length) : name}`;
      writer.add({ step, scalars: { [tag]: figure } });
    }
  };
  const callbacks: CustomCallbackArgs = {
    onEpochEnd: (epoch, logs) => write('epoch', logs as Logs | undefined, epoch + 1),
    onTrainEnd: async () => {
      for (const writer of writers.values()) writer.close();
      // The same object may see another training.
      writers.clear();
    },
    ...(updateFreq === 'batch' && {
      onBatchEnd: (_batch, logs) => write('batch', logs as Logs | undefined, ++batches),
    }),
  };
  return new CustomCallback(callbacks);
}
