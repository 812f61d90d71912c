/** Event files against bytes put together by hand from the published messages, and after a crash. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { decodeEvent, encodeEvent } from './event.js';
import { EventFileWriter, readEvents } from './event-file.js';
import { SummaryObserver } from './summary-observer.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-events-'));
after(() => rmSync(folder, { recursive: true, force: true }));
let made = 0;
const fresh = () => mkdtempSync(join(folder, `${made++}-`));

/** Field 1 as a double, then what follows. */
const event = (wallTime: number, ...rest: number[]) => {
  const time = Buffer.alloc(9);
  time[0] = 0x09;
  time.writeDoubleLE(wallTime, 1);
  return Buffer.concat([time, Buffer.from(rest)]);
};
const ascii = (text: string) => [...Buffer.from(text)];

describe('an event', () => {
  it('is the bytes of its message', () => {
    assert.deepEqual(
      Buffer.from(encodeEvent({ wallTime: 1.5, fileVersion: 'brain.Event:2' })),
      event(1.5, 0x1a, 13, ...ascii('brain.Event:2')),
    );
    // Step 300 is the varint AC 02; 0.5 as a float is 00 00 00 3F.
    const value = [0x0a, 4, ...ascii('loss'), 0x15, 0, 0, 0, 0x3f];
    const scalar = event(2, 0x10, 0xac, 0x02, 0x2a, value.length + 2, 0x0a, value.length, ...value);
    assert.deepEqual(Buffer.from(encodeEvent({ wallTime: 2, step: 300, scalars: { loss: 0.5 } })), scalar);
    const tensor = [0x08, 7, 0x42, 2, ...ascii('hi')];
    const plugin = [0x0a, 6, 0x0a, 4, ...ascii('text')];
    const text = [0x0a, 1, ...ascii('t'), 0x42, tensor.length, ...tensor, 0x4a, plugin.length, ...plugin];
    assert.deepEqual(
      Buffer.from(encodeEvent({ wallTime: 2, texts: { t: 'hi' } })),
      event(2, 0x2a, text.length + 2, 0x0a, text.length, ...text),
    );
  });

  it('has pictures and histograms', () => {
    const picture = { height: 2, width: 3, channels: 1, bytes: Uint8Array.of(7, 8) };
    const image = [0x08, 2, 0x10, 3, 0x18, 1, 0x22, 2, 7, 8];
    const value = [0x0a, 1, ...ascii('p'), 0x22, image.length, ...image];
    assert.deepEqual(
      Buffer.from(encodeEvent({ wallTime: 2, images: { p: picture } })),
      event(2, 0x2a, value.length + 2, 0x0a, value.length, ...value),
    );
    const doubles = (...values: number[]) => [...Buffer.from(Float64Array.from(values).buffer)];
    const numbers = [-1, 2, 3, 1.5, 5.25].flatMap((number, i) => [((i + 1) << 3) | 1, ...doubles(number)]);
    const histogram = [...numbers, 0x32, 16, ...doubles(0, 4), 0x3a, 16, ...doubles(1, 2)];
    const rest = [0x0a, 1, ...ascii('h'), 0x2a, histogram.length, ...histogram];
    const made = encodeEvent({
      wallTime: 2,
      histograms: { h: { min: -1, max: 2, num: 3, sum: 1.5, sumSquares: 5.25, limits: [0, 4], counts: [1, 2] } },
    });
    assert.deepEqual(Buffer.from(made), event(2, 0x2a, rest.length + 2, 0x0a, rest.length, ...rest));
  });

  it('is read back, whatever else another program has put into it', () => {
    const scalars = { a: 0.25, b: -3, nan: Number.NaN };
    assert.deepEqual(decodeEvent(encodeEvent({ wallTime: 3, step: 7, scalars, texts: { t: 'é' } })), {
      ...{ wallTime: 3, step: 7, scalars, texts: { t: 'é' } },
    });
    // An image (field 4), a node name (7) and a graph (field 4 of the event).
    const value = [0x0a, 1, ...ascii('x'), 0x22, 2, 0x08, 9, 0x3a, 1, ...ascii('n'), 0x15, 0, 0, 0x80, 0x3f];
    const odd = event(4, 0x22, 3, 1, 2, 3, 0x2a, value.length + 2, 0x0a, value.length, ...value);
    assert.deepEqual(decodeEvent(odd).scalars, { x: 1 });
  });
});

describe('an event file', () => {
  const write = (at: string, count: number) => {
    let now = 1_000_000_000.25;
    const writer = new EventFileWriter(at, { warn: assert.fail, now: () => now++ });
    for (let step = 1; step <= count; step++) writer.add({ step, scalars: { loss: 1 / step } });
    writer.close();
    return join(at, readdirSync(at)[0] as string);
  };

  it('begins with its version, and each record with its length and the checksum of that', () => {
    const file = write(fresh(), 2);
    assert.match(file, /events\.out\.tfevents\.1000000000\..+\.lockstep$/);
    const bytes = readFileSync(file);
    // 9 bytes of time, then 1A 0D and the version: 24.
    assert.equal(bytes.readBigUInt64LE(0), 24n);
    // The masked CRC-32C of the length.
    assert.equal(bytes.readUInt32LE(8), maskedOf(bytes.subarray(0, 8)));
    assert.deepEqual(bytes.subarray(12, 36), event(1_000_000_001.25, 0x1a, 13, ...ascii('brain.Event:2')));
    assert.deepEqual(
      [...readEvents(file)].map(({ step, scalars }) => [step, scalars]),
      [
        [0, {}],
        [1, { loss: 1 }],
        [2, { loss: 0.5 }],
      ],
    );
  });

  it('loses its last record at most when it is cut off anywhere', () => {
    const file = write(fresh(), 5);
    const { size } = statSync(file);
    const copy = `${file}.copy`;
    const whole = readFileSync(file);
    for (let cut = 0; cut < size; cut += 3) {
      writeFileSync(copy, whole);
      truncateSync(copy, cut);
      const steps = [...readEvents(copy)].map(({ step }) => step);
      assert.deepEqual(steps, [0, 1, 2, 3, 4, 5].slice(0, steps.length));
      assert.ok(steps.length >= Math.floor((6 * cut) / size) - 1, `${steps.length} of ${cut} bytes`);
    }
    writeFileSync(copy, whole);
    appendFileSync(copy, 'half a reco');
    assert.equal([...readEvents(copy)].length, 6);
    whole[size - 1] = (whole[size - 1] as number) ^ 1;
    writeFileSync(copy, whole);
    assert.equal([...readEvents(copy)].length, 5, 'a wrong checksum');
  });

  it('is not made before there is something to write, and what cannot be written is said once', () => {
    const at = fresh();
    new EventFileWriter(at, { warn: assert.fail }).close();
    assert.deepEqual(readdirSync(at), []);
    const lines: string[] = [];
    const writer = new EventFileWriter(join(at, 'no', 'folder'), { warn: (line) => lines.push(line) });
    for (let step = 0; step < 3; step++) {
      writer.add({ step, scalars: { x: 1 } });
      writer.flush();
    }
    writer.close();
    assert.equal(lines.length, 1);
    assert.match(lines[0] as string, /^warning: .* cannot be written: .*\nhelp: --save_summary_steps=0/);
  });
});

describe('the observer', () => {
  it('writes the first step, then every so many, evaluations, and the parameters once', () => {
    const at = fresh();
    const writer = new EventFileWriter(at, { warn: assert.fail });
    const observer = new SummaryObserver(writer, { everySteps: 10, batchSize: 32, replicas: 2 });
    assert.equal(observer.wantsEveryStep, true);
    observer.begin({ modelName: 'resnet', datasetName: 'D', parameters: { batch_size: 32, note: 'a|b' } });
    observer.callBegins(0);
    const phases = { input: 1, forward: 2, backward: 3, reduce: 4, update: 5 };
    for (let globalStep = 1; globalStep <= 25; globalStep++) {
      observer.step({
        ...{ globalStep, totalSteps: 25, epoch: 0, loss: 3, crossEntropy: 2.5, accuracy: 0.5, callAccuracy: 0.25 },
        ...{ callAccuracyTop5: 0.75, lossScale: 1, gradientBytes: 4000 },
        ...{ learningRate: 0.5, stepMs: 15, phases },
      });
    }
    observer.evaluation({ accuracy: 0.75, accuracyTop5: 1, loss: 2, globalStep: 25 });
    observer.end();
    const events = [...readEvents(join(at, readdirSync(at)[0] as string))];
    assert.deepEqual(
      events.map(({ step }) => step),
      [0, 0, 1, 11, 21, 25],
    );
    assert.equal(
      events[1]?.texts?.parameters,
      '| | |\n|---|---|\n| model | resnet |\n| dataset | D |\n| batch_size | 32 |\n| note | a\\|b |',
    );
    const {
      'global_step/sec': rate,
      images_per_second: images,
      images_per_second_per_replica: each,
      ...rest
    } = events[3]?.scalars ?? {};
    assert.ok(Math.abs((each as number) / (images as number) - 0.5) < 1e-6);
    assert.deepEqual(rest, {
      ...{ loss: 3, cross_entropy: 2.5, l2_loss: 0.5, learning_rate: 0.5, train_accuracy: 0.25, step_ms: 15 },
      // Two replicas: each sends and gets half of 4000 bytes twice, in the 4 ms that the step waits.
      ...{ train_accuracy_top_5: 0.75, 'all_reduce/ms': 4, 'all_reduce/bus_gb_per_s': Math.fround(4000 / 4e6) },
      ...Object.fromEntries(Object.entries(phases).map(([name, ms]) => [`step_ms/${name}`, ms])),
    });
    assert.ok(Math.abs((images as number) / (rate as number) - 32) < 1e-3);
    assert.deepEqual(events[5]?.scalars, {
      'evaluation/accuracy': 0.75,
      'evaluation/accuracy_top_5': 1,
      'evaluation/loss': 2,
    });
  });

  it('writes a loss scale where there is one', () => {
    const at = fresh();
    const writer = new EventFileWriter(at, { warn: assert.fail });
    const observer = new SummaryObserver(writer, { everySteps: 1, batchSize: 1 });
    const phases = { input: 1, forward: 2, backward: 3, reduce: 4, update: 5 };
    for (const [i, lossScale] of [1, 32_768].entries()) {
      observer.step({
        ...{ globalStep: i + 1, totalSteps: 2, epoch: 0, loss: 3, crossEntropy: 3, accuracy: 0, callAccuracy: 0 },
        ...{ callAccuracyTop5: 0, gradientBytes: 4, learningRate: 1, stepMs: 15, lossScale, phases },
      });
    }
    observer.end();
    const events = [...readEvents(join(at, readdirSync(at)[0] as string))];
    const scalars = events.filter(({ step = 0 }) => step > 0).map((event) => event.scalars);
    assert.deepEqual(
      scalars.map((one) => one?.loss_scale),
      [undefined, 32_768],
    );
    // One replica reduces nothing.
    assert.ok(scalars.every((one) => one?.loss === 3 && one['all_reduce/ms'] === undefined));
  });
});

/** CRC-32C bit by bit (polynomial 0x1EDC6F41, reflected), and TensorFlow's mask. */
function maskedOf(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  crc = ~crc >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
