/** For tests of the board: event files of runs that nobody trained, with curves that look like training. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EventFileWriter } from '@lockstep/official/summary/event-file';
import { Philox } from '@lockstep/official/utils/random/philox';

export interface MadeRun {
  /** Points of each series. Default 200. */
  readonly points?: number;
  /** Steps between points. Default 10. */
  readonly every?: number;
  readonly replicas?: number;
  readonly seed?: number;
  readonly learningRate?: number;
  /** Seconds since 1970. */
  readonly begin?: number;
  readonly parameters?: Readonly<Record<string, string | number>>;
}

/** Figures of a step, without noise beyond the seed's. */
export function madeScalars(
  step: number,
  { replicas = 1, seed = 1, learningRate = 0.1 }: MadeRun,
): Record<string, number> {
  const [a = 0, b = 0, c = 0] = noise(seed, step);
  const progress = 1 - Math.exp((-step * learningRate) / 60);
  const crossEntropy = 2.3 * (1 - progress) + 0.12 + 0.25 * a * (1.1 - progress);
  const scale = (0.95 + 0.1 * b) * replicas ** 0.06;
  const phases = {
    input: 0.4 + 0.2 * c,
    forward: 8.1 * scale,
    backward: 15.2 * scale,
    reduce: 0.3 + 1.1 * (replicas - 1) * c,
    update: 0.9,
  };
  const stepMs = Object.values(phases).reduce((sum, ms) => sum + ms, 0.3);
  return {
    ...{ loss: crossEntropy + 0.9, cross_entropy: crossEntropy, l2_loss: 0.9, learning_rate: learningRate },
    ...{ train_accuracy: 0.1 + 0.88 * progress + 0.02 * b, 'global_step/sec': 1000 / stepMs },
    ...{ images_per_second: (64 * replicas * 1000) / stepMs, step_ms: stepMs },
    ...Object.fromEntries(Object.entries(phases).map(([name, ms]) => [`step_ms/${name}`, ms])),
  };
}

/** A folder with one event file. */
export function makeRun(folder: string, run: MadeRun = {}): void {
  const { points = 200, every = 10, begin = 1_700_000_000, replicas = 1, learningRate = 0.1, parameters = {} } = run;
  mkdirSync(folder, { recursive: true });
  let now = begin;
  const writer = new EventFileWriter(folder, { warn: (line) => assertNever(line), now: () => now });
  const rows = Object.entries({
    model: 'resnet',
    dataset: 'digits',
    replicas,
    learning_rate: learningRate,
    batch_size: 64,
    ...parameters,
  });
  writer.add({
    texts: { parameters: ['| | |', '|---|---|', ...rows.map(([name, value]) => `| ${name} | ${value} |`)].join('\n') },
  });
  for (let point = 1; point <= points; point++) {
    now = begin + point;
    const scalars = madeScalars(point * every, run);
    writer.add({ step: point * every, scalars });
    if (point % Math.ceil(points / 5) !== 0) continue;
    const accuracy = (scalars.train_accuracy as number) - 0.03;
    const evaluation = {
      'evaluation/accuracy': accuracy,
      'evaluation/accuracy_top_5': 1 - (1 - accuracy) / 4,
      'evaluation/loss': scalars.loss as number,
    };
    writer.add({ step: point * every, scalars: evaluation });
  }
  writer.close();
}

/** A trace of one step: replicas one after another a little slower, the one named a lot. @param slow of it */
export function makeTimeline(folder: string, step: number | string, replicas: number, slow = -1): void {
  const traceEvents: object[] = [{ ph: 'M', name: 'process_name', pid: 0, tid: 0, args: { name: 'worker 0' } }];
  const longest = 8000 * 1.35 + 16_000 * 1.35;
  for (let replica = 0; replica < replicas; replica++) {
    traceEvents.push({ ph: 'M', name: 'thread_name', pid: 0, tid: replica, args: { name: `replica ${replica}` } });
    const factor = replica === slow ? 1.35 : 1 + 0.01 * replica;
    const span = (name: string, ts: number, dur: number) =>
      traceEvents.push({ ph: 'X', name, pid: 0, tid: replica, ts, dur, args: { step } });
    const times = { input: 500, forward: 8000 * factor, backward: 16_000 * factor, reduce: 0, update: 900 };
    times.reduce = (slow < 0 ? 24_000 * 1.05 : longest) - times.forward - times.backward + 700;
    span(
      'step',
      0,
      Object.values(times).reduce((sum, dur) => sum + dur, 0),
    );
    let at = 0;
    for (const [name, dur] of Object.entries(times)) {
      span(name, at, dur);
      const layers = name === 'forward' || name === 'backward' ? 8 : 0;
      for (let layer = 0; layer < layers; layer++) span(`conv2d_${layer}`, at + (layer * dur) / layers, dur / layers);
      at += dur;
    }
  }
  writeFileSync(join(folder, `timeline-${step}.json`), JSON.stringify({ traceEvents }));
}

/** Numbers between 0 and 1. */
function noise(seed: number, step: number): number[] {
  const random = new Philox(seed, [step]);
  return [random.uniform(), random.uniform(), random.uniform()];
}

function assertNever(line: string): never {
  throw new Error(line);
}
