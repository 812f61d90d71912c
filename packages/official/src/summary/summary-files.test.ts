/** TensorBoard's files of programs of one's own: from replicas, and from model.fit against its own history. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import {
  type DeviceDescription,
  listDevices,
  MirroredStrategy,
  type SummaryEvent,
  soloContext,
} from '@lockstep/distribute';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import { readEvents } from './event-file.js';
import { summaryFiles, tensorBoard } from './summary-files.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-summaries-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const replica = new URL('./testing/summary-replica.js', import.meta.url);

const [device] = listDevices({ numCpus: 1 }) as [DeviceDescription];

const eventsOf = (at: string) => readdirSync(at).flatMap((file) => [...readEvents(join(at, file))]);

describe('context.summary', () => {
  const strategy = new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'], log: () => {} });

  it('comes from the first replica alone, into a file that TensorBoard reads', async () => {
    const at = join(folder, 'new', 'run');
    const summary = summaryFiles(at, assert.fail);
    assert.deepEqual(await strategy.run(replica, 7, { summary }), [true, false]);
    summary.close();
    summary.close();
    const events = eventsOf(at).slice(1);
    assert.deepEqual(
      events.map(({ step }) => step),
      [7, 7, 7, 7],
    );
    assert.deepEqual(events[0]?.scalars, { loss: 0.5 });
    assert.deepEqual(events[1]?.texts, { note: 'replica 0' });
    // The picture is a PNG, whatever else is in the file.
    assert.ok(readFileSync(join(at, readdirSync(at)[0] as string)).includes(Buffer.of(0x89, 0x50, 0x4e, 0x47)));
  });

  it('is nobody’s where nobody takes it', async () => {
    assert.deepEqual(await strategy.run(replica, 7), [false, false]);
    assert.equal(soloContext({ device }).summary.isWanted, false);
  });

  it('arrives as plain data, copied', async () => {
    const events: SummaryEvent[] = [];
    await strategy.run(replica, 3, { summary: { add: (event) => events.push(event) } });
    assert.deepEqual(events[2], { step: 3, values: { values: Float32Array.of(1, 2, 2, Number.NaN) } });
    assert.deepEqual(events[3], {
      step: 3,
      pictures: { picture: { shape: [2, 2, 1], pixels: Uint8Array.of(0, 255, 7, 9) } },
    });
  });

  it('says what it cannot be', async () => {
    const { summary } = soloContext({ device });
    assert.throws(() => summary.scalar('a', '1' as never, 0), TypeError);
    for (const step of [-1, 0.5, Number.NaN]) assert.throws(() => summary.scalar('a', 1, step), RangeError);
    assert.throws(() => summary.image('a', [1, 2, 3], [2, 2, 1], 0), /3 pixels are none of 2 × 2 with 1 channels/);
    await assert.rejects(strategy.run(replica, 0, { summary: {} as never }), /summary must be something that takes/);
    await assert.rejects(
      strategy.run(replica, 0, {
        summary: {
          add() {
            throw new Error('full');
          },
        },
      }),
      /sent a summary that its sink could not take: full/,
    );
  });
});

describe('tensorBoard', () => {
  const fit = async (logDir: string, options: Partial<Parameters<typeof tensorBoard>[0]> = {}) => {
    const model = tfl.sequential({ layers: [tfl.layers.dense({ units: 1, inputShape: [2] })] });
    model.compile({ optimizer: 'sgd', loss: 'meanSquaredError', metrics: ['mae'] });
    const [x, y] = [tf.ones([8, 2]), tf.ones([8, 1])];
    const { history } = await model.fit(x, y, {
      ...{ epochs: 3, batchSize: 4, validationSplit: 0.25, verbose: 0 },
      callbacks: tensorBoard({ logDir, ...options }),
    });
    return history as Record<string, number[]>;
  };

  it('has each epoch’s losses and metrics, those of validation in a folder of their own', async () => {
    const logDir = join(folder, 'fit');
    const history = await fit(logDir);
    assert.deepEqual(readdirSync(logDir).sort(), ['train', 'val']);
    for (const [part, prefix] of [
      ['train', ''],
      ['val', 'val_'],
    ] as const) {
      const events = eventsOf(join(logDir, part)).slice(1);
      for (const name of ['loss', 'mae']) {
        const points = events.flatMap(({ step, scalars }) => {
          const value = scalars?.[`epoch_${name}`];
          return value === undefined ? [] : [[step, value]];
        });
        assert.deepEqual(
          points,
          (history[`${prefix}${name}`] as number[]).map((value, i) => [i + 1, Math.fround(value)]),
        );
      }
    }
  });

  it('has each batch’s where that is asked for', async () => {
    const logDir = join(folder, 'batches');
    await fit(logDir, { updateFreq: 'batch' });
    const steps = eventsOf(join(logDir, 'train')).flatMap(({ step, scalars }) =>
      scalars?.batch_loss === undefined ? [] : [step],
    );
    // Six examples in batches of four: two a step, in three epochs.
    assert.deepEqual(steps, [1, 2, 3, 4, 5, 6]);
  });

  it('writes for all replicas in the first one alone', async () => {
    const logDir = join(folder, 'silent');
    await fit(logDir, { context: { replicaIdInSyncGroup: 1, inputPipelineId: 0 } });
    assert.throws(() => readdirSync(logDir), /ENOENT/);
  });

  it('says what is wrong before anything is trained', async () => {
    assert.throws(() => tensorBoard({} as never), /needs a folder/);
    assert.throws(() => tensorBoard({ logDir: 'x', updateFreq: 'never' as never }), /updateFreq is 'epoch' or 'batch'/);
    const file = join(folder, 'file');
    writeFileSync(file, '');
    assert.throws(() => tensorBoard({ logDir: join(file, 'below') }), /ENOTDIR|EEXIST/);
  });
});
