/**
 * Exported networks, loaded by stock TensorFlow.js, against the network that was trained: the trainer's own preprocessing and its own
 * forward pass give the probabilities that the file has to give of the same pictures' pixels.
 */
import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { RECORD_BYTES } from '../../data/cifar10-data.js';
import { prepareImage } from '../../data/cifar10-reader.js';
import { CHANNEL_MEANS } from '../../data/imagenet-preprocessing.js';
import { BACKENDS, FAST, on } from '../../testing/provider.js';
import { CheckpointError } from '../../utils/checkpoint/checkpoint-manager.js';
import type { InferenceModel } from '../../utils/export/export.js';
import { ExportError } from '../../utils/export/export-folder.js';
import { TFJS_LAYERS_MODEL } from '../../utils/export/tfjs-layers-model.js';
import { Philox } from '../../utils/random/philox.js';
import { runCheckpoints } from '../replica/run-state.js';
import { cifar10Plan, imagenetPlan, type Model, type ResNetPlan } from '../resnet-model.js';
import { exportResnet } from './export-resnet.js';
import { resnetLayers } from './resnet-layers.js';
import {
  calibrate,
  checkpointOf,
  disturbedModel,
  loadExport,
  predict,
  saveCheckpoint,
  tensorsOf,
} from './testing/trained.js';

const base = mkdtempSync(join(tmpdir(), 'export-'));
after(() => rmSync(base, { recursive: true, force: true }));
let folders = 0;
const fresh = () => join(base, `folder-${folders++}`);
const BOTH = [1, 2] as const;
/** Of probabilities, in f32. */
const TOLERANCE = 1e-4;

/** Pictures with a pattern each, as bytes. */
function pictures(count: number, [height, width, channels]: ResNetPlan['imageShape']): Uint8Array {
  const random = new Philox(3);
  const size = height * width * channels;
  const bytes = new Uint8Array(count * size);
  for (let i = 0; i < count; i++) {
    const [low, high] = [random.integer(100), 100 + random.integer(156)];
    for (let p = 0; p < size; p++) bytes[i * size + p] = low + random.integer(high - low) * ((p >> (i % 7)) & 1);
  }
  return bytes;
}

/** The trainer's own: a picture as evaluation sees it. */
function preprocessed(bytes: Uint8Array, plan: ResNetPlan): Float32Array {
  const [height, width, channels] = plan.imageShape;
  if (plan.kernelSize === 7) {
    return Float32Array.from(bytes, (value, i) => value - (CHANNEL_MEANS[i % channels] as number));
  }
  const plane = height * width;
  const out = new Float32Array(bytes.length);
  for (let at = 0; at < bytes.length; at += 3 * plane) {
    const record = new Uint8Array(RECORD_BYTES);
    for (let p = 0; p < plane; p++) {
      for (let c = 0; c < 3; c++) record[1 + c * plane + p] = bytes[at + 3 * p + c] as number;
    }
    prepareImage(record, 0, out, at);
  }
  return out;
}

function trainersProbabilities(model: Model, bytes: Uint8Array, count: number): Float32Array {
  return tf.tidy(() => {
    const images = tf.tensor4d(preprocessed(bytes, model.plan), [count, ...model.plan.imageShape]);
    calibrate(model, images);
    return tf.softmax(model.call(images, false)).dataSync() as Float32Array;
  });
}

function largestGap(actual: Float32Array, expected: Float32Array): number {
  assert.equal(actual.length, expected.length);
  return actual.reduce((gap, value, i) => {
    assert.ok(Number.isFinite(value));
    return Math.max(gap, Math.abs(value - (expected[i] as number)));
  }, 0);
}

/** Probabilities that tell pictures apart: a comparison of equal ones would show nothing. */
function assertTelling(probabilities: Float32Array, count: number): void {
  const classes = probabilities.length / count;
  for (let i = 1; i < count; i++) {
    const gap = probabilities
      .subarray(0, classes)
      .reduce((most, value, c) => Math.max(most, Math.abs(value - (probabilities[i * classes + c] as number))), 0);
    assert.ok(gap > 1e-3, `picture ${i} and the first one get the same answer`);
  }
}

const PLANS: Record<string, (version: number) => ResNetPlan> = {
  'CIFAR-10, size 8': (version) => cifar10Plan(8, version),
  'CIFAR-10, size 14': (version) => cifar10Plan(14, version),
  'ImageNet, size 18, building blocks': (version) => imagenetPlan(18, version, { numClasses: 7, imageSize: 37 }),
  'ImageNet, size 50, bottlenecks': (version) => imagenetPlan(50, version, { numClasses: 9, imageSize: 40 }),
};

describe('an exported ResNet', () => {
  for (const [name, plan] of Object.entries(PLANS)) {
    for (const version of BOTH) {
      it(`gives the trainer's probabilities: ${name}, v${version}`, async (t) => {
        const count = 3;
        await on(FAST, async () => {
          const model = disturbedModel(plan(version));
          const bytes = pictures(count, model.plan.imageShape);
          const expected = trainersProbabilities(model, bytes, count);
          assertTelling(expected, count);
          const { imageShape, numClasses } = model.plan;
          const from = fresh();
          const classNames = Array.from({ length: numClasses }, (_, i) => `class ${i}`);
          saveCheckpoint(from, model, { dataset: 'mine', size: imageShape[0], classNames });
          model.dispose();
          const to = fresh();
          const { entry, description } = exportResnet({ from, to, format: 'tfjs', what: 'OUT' });
          assert.deepEqual(description.labels, classNames);
          for (const backend of new Set(name.startsWith('CIFAR') ? BACKENDS : [FAST])) {
            await on(backend, async () => {
              const loaded = await loadExport(join(to, entry));
              const actual = predict(loaded, Float32Array.from(bytes), [count, ...imageShape]);
              const gap = largestGap(actual, expected);
              t.diagnostic(`largest difference on ${backend}: ${gap.toExponential(1)}`);
              assert.ok(gap < TOLERANCE, `${backend}: ${gap}`);
              assert.deepEqual(loaded.getUserDefinedMetadata(), JSON.parse(JSON.stringify(description)));
              loaded.dispose();
            });
          }
        });
      });
    }
  }

  it('has no batch norm left in version 1, and in version 2 those that nothing can take over', async () => {
    await on('cpu', () => {
      for (const [plan, left] of [
        [cifar10Plan(14, 1), 0],
        // One at the beginning of each of six blocks, but for the first, and the last one.
        [cifar10Plan(14, 2), 6],
        [imagenetPlan(18, 1, { numClasses: 5 }), 0],
        // Eight blocks; the pooling stands between the first convolution and the first of them.
        [imagenetPlan(18, 2, { numClasses: 5 }), 9],
        [imagenetPlan(50, 2, { numClasses: 5 }), 17],
      ] as const) {
        const layers = resnetLayers({
          plan,
          preprocessing: { kind: 'standardize' },
          tensors: (_name, shape) => new Float32Array(shape.reduce((a, b) => a * b, 1)),
          fold: true,
        });
        const norms = layers.filter(({ className }) => className === 'BatchNormalization');
        assert.equal(norms.length, left, `ResNet-${plan.resnetSize} v${plan.resnetVersion}`);
      }
    });
  });

  it('pads odd and even pictures as the trainer does', async () => {
    // ImageNet's strides and pooling over sizes that TensorFlow's own padding would treat differently.
    await on('cpu', async () => {
      for (const version of BOTH) {
        for (const imageShape of [
          [33, 38, 3],
          [40, 31, 3],
        ] as const) {
          const plan = {
            ...imagenetPlan(50, version, { numClasses: 6 }),
            numFilters: 4,
            blockSizes: [1, 1, 1],
            imageShape,
          };
          const model = disturbedModel(plan);
          const bytes = pictures(2, imageShape);
          const expected = trainersProbabilities(model, bytes, 2);
          const layers = resnetLayers({
            plan,
            preprocessing: { kind: 'subtract means', means: CHANNEL_MEANS },
            tensors: tensorsOf(model),
            fold: true,
          });
          model.dispose();
          const folder = fresh();
          mkdirSync(folder);
          const description = { quantization: 'none' } as InferenceModel['description'];
          for (const { name, pieces } of TFJS_LAYERS_MODEL.files({ layers, description, variables: {} })) {
            writeFileSync(join(folder, name), Buffer.concat([...pieces]));
          }
          const loaded = await loadExport(join(folder, 'model.json'));
          const gap = largestGap(predict(loaded, Float32Array.from(bytes), [2, ...imageShape]), expected);
          loaded.dispose();
          assert.ok(gap < TOLERANCE, `v${version}, ${imageShape}: ${gap}`);
        }
      }
    });
  });

  it('can be stored in fewer bits, and is near the same then', async (t) => {
    await on(FAST, async () => {
      for (const version of BOTH) {
        const model = disturbedModel(cifar10Plan(14, version));
        const bytes = pictures(4, model.plan.imageShape);
        const expected = trainersProbabilities(model, bytes, 4);
        const from = fresh();
        saveCheckpoint(from, model);
        model.dispose();
        const size = (folder: string) =>
          readdirSync(folder)
            .filter((name) => name.endsWith('.bin'))
            .reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
        const sizes: number[] = [];
        for (const [quantization, tolerance] of [
          ['none', TOLERANCE],
          ['float16', 0.005],
          ['uint8', 0.05],
        ] as const) {
          const to = fresh();
          const { entry } = exportResnet({ from, to, format: 'tfjs', what: 'OUT', quantization });
          sizes.push(size(to));
          const loaded = await loadExport(join(to, entry));
          const gap = largestGap(predict(loaded, Float32Array.from(bytes), [4, 32, 32, 3]), expected);
          loaded.dispose();
          t.diagnostic(`v${version} ${quantization}: ${size(to)} bytes, largest difference ${gap.toExponential(1)}`);
          assert.ok(gap < tolerance, `${quantization}: ${gap}`);
        }
        const [whole = 0, half = 0, quarter = 0] = sizes;
        assert.ok(half < 0.51 * whole && quarter < 0.3 * whole, `${sizes}`);
      }
    });
  });

  it('is cut into files of 4 MiB, and never into more than four', async () => {
    await on('cpu', async () => {
      const model = disturbedModel(cifar10Plan(110, 1));
      const from = fresh();
      saveCheckpoint(from, model);
      model.dispose();
      const to = fresh();
      exportResnet({ from, to, format: 'tfjs', what: 'OUT' });
      const sizes = readdirSync(to)
        .filter((name) => name.endsWith('.bin'))
        .map((name) => statSync(join(to, name)).size);
      assert.deepEqual([sizes.length, sizes[0]], [2, 4 * 2 ** 20]);
      // A browser has six connections with a server, and TensorFlow.js reads from none before all have begun.
      const kernel = { shape: [3e7, 1], values: new Float32Array(3e7) };
      const layer = { className: 'Dense', name: 'dense', config: {}, inputs: [], weights: { kernel } };
      const description = { quantization: 'none' } as InferenceModel['description'];
      const files = TFJS_LAYERS_MODEL.files({ layers: [layer], description, variables: {} });
      const lengths = files.slice(0, -1).map(({ pieces }) => [...pieces].reduce((sum, { length }) => sum + length, 0));
      assert.deepEqual(lengths, [3e7, 3e7, 3e7, 3e7]);
    });
  });
});

describe('an export as safetensors', () => {
  it('holds the variables as they were trained, and says what they are', async () => {
    await on('cpu', () => {
      const model = disturbedModel(cifar10Plan(8, 2));
      const { tensors } = checkpointOf(model);
      const from = fresh();
      saveCheckpoint(from, model, { dataset: 'CIFAR-10', size: 32, classNames: [...'0123456789'] });
      model.dispose();
      const to = fresh();
      const { entry } = exportResnet({ from, to, format: 'safetensors', what: 'OUT' });
      // By the format's description alone: length, JSON, bytes.
      const bytes = readFileSync(join(to, entry));
      const length = Number(bytes.readBigUInt64LE(0));
      const { __metadata__: metadata, ...places } = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<
        string,
        { dtype: string; shape: number[]; data_offsets: [number, number] }
      > & { __metadata__: Record<string, string> };
      assert.deepEqual(JSON.parse((metadata as never as Record<string, string>).description as string).labels, [
        ...'0123456789',
      ]);
      const names = Object.keys(tensors).filter((name) => !name.endsWith('/momentum'));
      assert.deepEqual(Object.keys(places).sort(), names.sort());
      for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(places)) {
        const values = new Float32Array(
          Uint8Array.from(bytes.subarray(8 + length + offsets[0], 8 + length + offsets[1])).buffer,
        );
        assert.deepEqual([dtype, shape, values], ['F32', tensors[name]?.shape, tensors[name]?.values], name);
      }
    });
  });

  it('has no fewer bits', () => {
    const options = { from: base, to: fresh(), format: 'safetensors', what: 'OUT', quantization: 'uint8' } as const;
    assert.throws(
      () => exportResnet(options),
      /flag --quantize=uint8: --export_format=safetensors has no such weights/,
    );
  });
});

describe('an export that cannot be', () => {
  const options = (from: string, to: string) => ({ from, to, format: 'tfjs', what: 'OUT' }) as const;
  let trained = '';
  const model = async () => {
    if (trained) return trained;
    trained = fresh();
    await on('cpu', () => {
      const one = disturbedModel(cifar10Plan(8, 1));
      saveCheckpoint(trained, one);
      one.dispose();
    });
    return trained;
  };

  it('leaves alone what is there', async () => {
    const taken = fresh();
    mkdirSync(taken);
    writeFileSync(join(taken, 'notes.txt'), 'mine');
    const from = await model();
    assert.throws(
      () => exportResnet(options(from, taken)),
      (error: Error) =>
        error instanceof ExportError &&
        error.message ===
          `OUT: ${taken} is not empty: it has 'notes.txt'.\nhelp: name a new folder, or delete what is in it.`,
    );
    assert.deepEqual(readdirSync(taken), ['notes.txt']);
    const file = join(taken, 'notes.txt');
    assert.throws(() => exportResnet(options(from, file)), /is a file\.\nhelp: name a folder/);
    assert.throws(() => exportResnet(options(from, join(file, 'x'))), ExportError);
    assert.equal(readFileSync(file, 'utf8'), 'mine');
  });

  it('takes a folder that is empty, one in folders that are not there, and a link to one', async () => {
    const from = await model();
    const empty = fresh();
    mkdirSync(empty);
    exportResnet(options(from, empty));
    assert.ok(readdirSync(empty).includes('model.json'));
    exportResnet(options(from, join(fresh(), 'a', 'b')));
    const [real, link] = [fresh(), fresh()];
    mkdirSync(real);
    symlinkSync(real, link);
    exportResnet(options(from, link));
    assert.ok(readdirSync(real).includes('model.json'));
  });

  it('leaves nothing half-written, nor what one left that was killed', async () => {
    const parent = fresh();
    mkdirSync(join(parent, '.out.4194304.tmp'), { recursive: true });
    const from = await model();
    const breaking = () => [
      {
        name: 'page.html',
        get pieces(): Uint8Array[] {
          throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
        },
      },
    ];
    assert.throws(
      () => exportResnet({ ...options(from, join(parent, 'out')), beside: breaking }),
      /OUT: nothing was written to .*out: the disk is full \(ENOSPC\)\.\nhelp: make room/,
    );
    assert.deepEqual(readdirSync(parent), []);
  });

  it('says which checkpoint is none, and why', async () => {
    const from = await model();
    assert.throws(() => exportResnet(options(fresh(), fresh())), CheckpointError);
    const broken = (change: (file: ReturnType<typeof checkpointOf>) => void) => {
      const { tensors, metadata } = runCheckpoints(from).latest() as NonNullable<
        ReturnType<ReturnType<typeof runCheckpoints>['latest']>
      >;
      const file = { tensors: { ...tensors }, metadata: { ...metadata } };
      change(file as never);
      const folder = fresh();
      runCheckpoints(folder).save(12, file);
      const to = fresh();
      return () => {
        try {
          exportResnet(options(folder, to));
        } finally {
          assert.equal(statSync(to, { throwIfNoEntry: false }), undefined);
        }
      };
    };
    const name = 'resnet_model/batch_normalization_2/moving_variance';
    assert.throws(
      broken(({ tensors }) => delete (tensors as Record<string, unknown>)[name]),
      new RegExp(`has nothing for ${name}, expected`),
    );
    assert.throws(
      broken(({ tensors }) => {
        (tensors as Record<string, unknown>)[name] = { shape: [16], values: new Float32Array(16).fill(Number.NaN) };
      }),
      new RegExp(`has NaN in ${name}: it is no model`),
    );
    assert.throws(
      broken(({ metadata }) => {
        (metadata as Record<string, string>).resnet_size = '14';
      }),
      /has nothing for resnet_model\/conv2d_7\/kernel|expected/,
    );
    assert.throws(
      broken(({ metadata }) => {
        Object.assign(metadata, { dataset: 'x', image_size: '32', class_names: '["one","two"]' });
      }),
      /has 10 classes, and there are names for 2/,
    );
  });
});
