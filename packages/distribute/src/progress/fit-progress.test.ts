/** Progress of `model.fit`: its figures are those of TensorFlow.js' own history, on terminals, in pipes and in replicas. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import * as tfd from '@tensorflow/tfjs-data';
import * as tfl from '@tensorflow/tfjs-layers';
import '@tensorflow/tfjs-backend-cpu';
import { fitProgress } from './fit-progress.js';
import { Terminal } from './testing/terminal.js';

await tf.setBackend('cpu');

/** A stream that is no terminal. */
class Pipe {
  written = '';

  write(text: string): boolean {
    this.written += text;
    return true;
  }

  get lines(): string[] {
    return this.written.split('\n').filter((line) => line !== '');
  }
}

const x = tf.randomNormal([40, 3], 0, 1, 'float32', 1);
const y = tf.sum(x, 1, true);
after(() => tf.disposeVariables());

function build(metrics: string[] = ['mse']): tfl.LayersModel {
  const model = tfl.sequential({ layers: [tfl.layers.dense({ units: 1, inputShape: [3] })] });
  model.compile({ optimizer: tf.train.sgd(0.05), loss: 'meanSquaredError', metrics });
  return model;
}

const fixed = (value: unknown) => (value as number).toFixed(3);

describe('fitProgress', () => {
  it('in a pipe writes a line for each epoch, with the figures of the history, and nothing else in a short training', async () => {
    const stream = new Pipe();
    const { history } = await build().fit(x, y, {
      epochs: 3,
      batchSize: 16,
      validationSplit: 0.2,
      verbose: 0,
      callbacks: fitProgress({ stream }),
    });
    const { loss, mse, val_loss: valLoss, val_mse: valMse } = history as Record<string, number[]>;
    assert.equal(stream.lines.length, 3, stream.written);
    for (const [i, line] of stream.lines.entries()) {
      const figures = [`loss ${fixed(loss?.[i])}`, `mse ${fixed(mse?.[i])}`];
      const validation = [`val_loss ${fixed(valLoss?.[i])}`, `val_mse ${fixed(valMse?.[i])}`];
      for (const figure of [...figures, ...validation]) assert.ok(line.split('  ').includes(figure), line);
      assert.match(line, new RegExp(`^epoch ${i + 1}/3  .*  \\d+ examples/s  \\ds$`));
    }
  });

  it('at an interval writes lines within an epoch, too, with epoch, step and time left', async () => {
    const stream = new Pipe();
    const callbacks = fitProgress({ stream, everyMs: 0 });
    await build().fit(x, y, { epochs: 2, batchSize: 16, verbose: 0, callbacks });
    const steps = stream.lines.filter((line) => / step /.test(line));
    // 40 examples in batches of 16: three steps, and the last one is a part of one.
    assert.deepEqual(
      steps.map((line) => /^epoch ([\d.]+)\/2 {2}step (\S+)/.exec(line)?.slice(1, 3).join(' ')),
      ['0.3 1/6', '0.7 2/6', '1.0 3/6', '1.3 4/6', '1.7 5/6', '2.0 6/6'],
    );
    assert.match(steps[5] as string, / {2}loss [\d.]+ {2}mse [\d.]+ {2}\S+ examples\/s {2}0s left$/);
  });

  it('on a terminal is a bar that fits, with a line for each epoch above it', async () => {
    for (const columns of [40, 80, 120]) {
      const terminal = new Terminal(columns);
      const callbacks = [
        fitProgress({ stream: terminal, color: 'never' }),
        tfl.callbacks.earlyStopping({ monitor: 'loss' }),
      ];
      await build().fit(x, y, { epochs: 2, batchSize: 16, verbose: 0, callbacks });
      const rows = terminal.rows();
      for (const row of rows) assert.ok(row.length < columns, `${columns}: ${row}`);
      assert.equal(rows.filter((row) => row.startsWith('epoch ')).length, 2, rows.join('\n'));
      assert.match(rows.at(-2) as string, /^█+ epoch 2\.0\/2 · .*0s left/);
      assert.equal(rows.at(-1), '');
      assert.ok(!terminal.written.includes('\x1b[36m'), 'no colours');
    }
  });

  it('takes colours where they are wanted, and none with NO_COLOR', async () => {
    const before = process.env.NO_COLOR;
    const colored = async () => {
      const terminal = new Terminal(80);
      await build().fit(x, y, { epochs: 1, batchSize: 16, verbose: 0, callbacks: fitProgress({ stream: terminal }) });
      return terminal.written.includes('\x1b[36m');
    };
    try {
      process.env.NO_COLOR = '1';
      assert.equal(await colored(), false);
      process.env.NO_COLOR = '';
      process.env.TERM ??= 'xterm';
      if (process.env.TERM !== 'dumb') assert.equal(await colored(), true);
    } finally {
      if (before === undefined) delete process.env.NO_COLOR;
      else process.env.NO_COLOR = before;
    }
  });

  it('of a data set of unknown length learns it in the first epoch, from initialEpoch on', async () => {
    const stream = new Pipe();
    const batches = function* () {
      for (let i = 0; i < 5; i++) yield { xs: tf.ones([4, 3]), ys: tf.ones([4, 1]) };
    };
    const dataset = tfd.generator(batches as never) as never;
    const callbacks = fitProgress({ stream, everyMs: 0 });
    await build().fitDataset(dataset, { initialEpoch: 1, epochs: 3, verbose: 0, callbacks });
    const steps = stream.lines.filter((line) => / step /.test(line));
    assert.match(steps[0] as string, /^epoch 1\.0\/3 {2}step 1 {2}.* {2}… left$/);
    assert.match(steps[5] as string, /^epoch 2\.2\/3 {2}step 6\/10 {2}/);
    assert.match(steps[9] as string, /^epoch 3\.0\/3 {2}step 10\/10 {2}.* {2}0s left$/);
  });

  it('in replicas is shown by the first, which counts the examples of all', async () => {
    const rateOf = async (replicaIdInSyncGroup: number, numReplicasInSync: number) => {
      const stream = new Pipe();
      const context = { replicaIdInSyncGroup, numReplicasInSync };
      const callbacks = fitProgress({ stream, context, everyMs: 0 });
      await build().fit(x, y, { epochs: 1, batchSize: 8, verbose: 0, callbacks });
      const line = stream.lines.find((one) => one.startsWith('epoch 1/1')) ?? '';
      const [, rate] = /(\d+) examples\/s/.exec(line) ?? [];
      return { written: stream.written, rate: Number(rate) };
    };
    assert.equal((await rateOf(1, 2)).written, '');
    assert.ok((await rateOf(0, 1000)).rate > 40_000, 'forty examples took less than a second, on each of 1000');
  });

  it('leaves no tensors behind, and may be used for another training', async () => {
    const model = build();
    const callback = fitProgress({ stream: new Terminal(80) });
    await model.fit(x, y, { epochs: 1, batchSize: 16, verbose: 0, callbacks: callback });
    const before = tf.memory().numTensors;
    await model.fit(x, y, { epochs: 2, batchSize: 16, verbose: 0, callbacks: callback });
    assert.equal(tf.memory().numTensors, before);
  });
});
