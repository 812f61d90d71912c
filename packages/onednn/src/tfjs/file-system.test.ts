/**
 * Saving to and loading from files: the model comes back bit by bit, also with its optimizer, and whatever goes wrong while it is
 * saved, the folder holds a whole model.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { type LayersModel, layers, loadLayersModel, sequential } from '@tensorflow/tfjs-layers';
import { fileSystem } from './file-system.js';
import '../index.js';

await tf.setBackend('onednn');
const root = mkdtempSync(join(tmpdir(), 'lockstep-files-'));
after(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const newFolder = () => join(root, `${folders++}`, 'model');

function made(units = 4): LayersModel {
  return sequential({
    layers: [
      layers.dense({ units, activation: 'relu', inputShape: [3] }),
      layers.batchNormalization(),
      layers.dense({ units: 2 }),
    ],
  });
}

const valuesOf = (model: LayersModel) => model.getWeights().map((weight) => Array.from(weight.dataSync()));
const [x, y] = [tf.ones([5, 3]), tf.zeros([5, 2])];

async function trained(): Promise<LayersModel> {
  const model = made();
  model.compile({ optimizer: tf.train.adam(0.01), loss: 'meanSquaredError' });
  for (let i = 0; i < 8; i++) await model.trainOnBatch(x, y);
  return model;
}

describe("model.save('file://…')", () => {
  it('and loadLayersModel give the same model, from the file and from its folder', async () => {
    const folder = newFolder();
    const model = await trained();
    const { modelArtifactsInfo } = await model.save(`file://${folder}`);
    const bytes = model.countParams() * 4;
    assert.equal(modelArtifactsInfo.weightDataBytes, bytes);
    assert.deepEqual(readdirSync(folder).sort(), ['model.json', 'weights.bin']);
    assert.equal(readFileSync(join(folder, 'weights.bin')).length, bytes);
    for (const path of [folder, `${folder}/model.json`, relative(process.cwd(), folder)]) {
      const loaded = await loadLayersModel(`file://${path}`);
      assert.deepEqual(valuesOf(loaded), valuesOf(model));
      assert.deepEqual((loaded.predict(x) as tf.Tensor).dataSync(), (model.predict(x) as tf.Tensor).dataSync());
    }
    const other = await loadLayersModel(fileSystem(folder));
    assert.deepEqual(valuesOf(other), valuesOf(model));
  });

  it('with includeOptimizer goes on training where the other does', async () => {
    const folder = newFolder();
    const model = await trained();
    await model.save(`file://${folder}`, { includeOptimizer: true });
    const loaded = await loadLayersModel(`file://${folder}/model.json`);
    for (let i = 0; i < 6; i++)
      assert.equal(await loaded.trainOnBatch(x, y), await model.trainOnBatch(x, y), `step ${i}`);
    assert.deepEqual(valuesOf(loaded), valuesOf(model));
  });

  it('replaces a model by one of another shape, any number of times, and leaves nothing else', async () => {
    const folder = newFolder();
    for (const units of [4, 7, 3]) {
      const model = made(units);
      await model.save(`file://${folder}`);
      assert.deepEqual(valuesOf(await loadLayersModel(`file://${folder}`)), valuesOf(model));
      assert.deepEqual(readdirSync(folder).sort(), ['model.json', 'weights.bin']);
    }
    const models = [2, 5, 6].map((units) => made(units));
    await Promise.all(models.map((model) => model.save(`file://${folder}`)));
    assert.deepEqual(valuesOf(await loadLayersModel(`file://${folder}`)), valuesOf(models[2] as LayersModel));
  });

  it('makes all the folders that are missing', async () => {
    const folder = join(root, 'far', 'down', 'below');
    await made().save(`file://${folder}`);
    assert.ok(readdirSync(folder).includes('model.json'));
  });

  it('is copied by tf.io.copyModel', async () => {
    const [from, to] = [newFolder(), newFolder()];
    const model = made();
    await model.save(`file://${from}`);
    await tf.io.copyModel(`file://${from}/model.json`, `file://${to}`);
    assert.deepEqual(valuesOf(await loadLayersModel(`file://${to}`)), valuesOf(model));
  });

  it('reads weights in several files and groups', async () => {
    const folder = newFolder();
    const model = made();
    await model.save(`file://${folder}`);
    const bytes = readFileSync(join(folder, 'weights.bin'));
    const text = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8'));
    const [{ weights }] = text.weightsManifest;
    // The first kernel, 3·4 floats, is a group of two files.
    writeFileSync(join(folder, 'a1'), bytes.subarray(0, 20));
    writeFileSync(join(folder, 'a2'), bytes.subarray(20, 48));
    writeFileSync(join(folder, 'b'), bytes.subarray(48));
    text.weightsManifest = [
      { paths: ['a1', 'a2'], weights: weights.slice(0, 1) },
      { paths: ['b'], weights: weights.slice(1) },
    ];
    writeFileSync(join(folder, 'model.json'), JSON.stringify(text));
    assert.deepEqual(valuesOf(await loadLayersModel(`file://${folder}`)), valuesOf(model));
  });
});

describe('a save that is interrupted', () => {
  /** Kills a process in the n-th call that makes a file or a name. @returns whether it lived to the end. */
  function saveAndDie(folder: string, calls: number): boolean {
    const program = `
      import { createRequire, syncBuiltinESMExports } from 'node:module';
      const fs = createRequire(import.meta.url)('node:fs/promises');
      let left = ${calls};
      for (const name of ['open', 'rename', 'link', 'rm']) {
        const original = fs[name];
        fs[name] = (...args) => (left-- === 0 ? process.kill(process.pid, 'SIGKILL') : original(...args));
      }
      syncBuiltinESMExports();
      const { fileSystem } = await import(${JSON.stringify(new URL('./file-system.js', import.meta.url).href)});
      const weightSpecs = [{ name: 'w', shape: [3], dtype: 'float32' }];
      await fileSystem(${JSON.stringify(folder)}).save({ modelTopology: 'new', weightSpecs, weightData: new Float32Array([4, 5, 6]).buffer });`;
    return (
      spawnSync(process.execPath, ['--input-type=module', '-e', program], { cwd: import.meta.dirname }).status === 0
    );
  }

  it('wherever it is killed, leaves the old model or the new one whole; the next one tidies up', async () => {
    const seen = new Set<unknown>();
    let isThrough = false;
    for (let calls = 0; !isThrough; calls++) {
      assert.ok(calls < 40);
      const folder = newFolder();
      const handler = fileSystem(folder) as { save: tf.io.SaveHandler; load: () => Promise<tf.io.ModelArtifacts> };
      const save = (modelTopology: unknown, values: number[]) => {
        const weightSpecs = [{ name: 'w', shape: [values.length], dtype: 'float32' as const }];
        return handler.save({
          modelTopology: modelTopology as object,
          weightSpecs,
          weightData: new Float32Array(values).buffer,
        });
      };
      await save('old', [1, 2]);
      isThrough = saveAndDie(folder, calls);
      const { modelTopology, weightData } = await handler.load();
      seen.add(modelTopology);
      const values = Array.from(new Float32Array(tf.io.CompositeArrayBuffer.join(weightData as ArrayBuffer[])));
      assert.deepEqual(values, (modelTopology as unknown) === 'old' ? [1, 2] : [4, 5, 6], `killed in call ${calls}`);
      await save('next', [7]);
      assert.deepEqual(readdirSync(folder).sort(), ['model.json', 'weights.bin'], `after call ${calls}`);
      assert.equal((await handler.load()).modelTopology, 'next');
    }
    assert.deepEqual(seen, new Set(['old', 'new']));
  });
});

describe('paths that are no models', () => {
  const saved = async () => {
    const folder = newFolder();
    await made().save(`file://${folder}`);
    return folder;
  };

  it('are errors that name them when a model is loaded', async () => {
    const folder = await saved();
    await assert.rejects(
      loadLayersModel(`file://${root}/none/model.json`),
      /There is no model at '.*none\/model\.json'.*\nhelp: /,
    );
    await assert.rejects(loadLayersModel(`file://${root}`), /There is no model at '.*model\.json'/);
    assert.throws(() => fileSystem(''), /'file:\/\/' has no path\.\nhelp: /);
    const json = join(folder, 'model.json');
    const text = readFileSync(json, 'utf8');
    writeFileSync(json, text.slice(0, 50));
    await assert.rejects(loadLayersModel(`file://${folder}`), /model\.json' is not JSON/);
    for (const other of ['{}', 'null', '[]']) {
      writeFileSync(json, other);
      await assert.rejects(loadLayersModel(`file://${folder}`), /neither modelTopology nor weightsManifest/);
    }
    writeFileSync(json, text);
    const weights = join(folder, 'weights.bin');
    const bytes = readFileSync(weights);
    writeFileSync(weights, bytes.subarray(4));
    await assert.rejects(
      loadLayersModel(`file://${folder}`),
      /weights\.bin': \d+ bytes, but '.*' has \d+ bytes of weights\.\nhelp: /,
    );
    renameSync(weights, `${weights}.away`);
    await assert.rejects(
      loadLayersModel(`file://${folder}`),
      /weights\.bin', which '.*model\.json' names, cannot be read/,
    );
  });

  it('are errors that name them when a model is saved, and nothing is lost', async () => {
    const file = join(root, 'a-file');
    writeFileSync(file, 'mine');
    const model = made();
    await assert.rejects(model.save(`file://${file}`), /saved to a folder, but '.*a-file' is something else\.\nhelp: /);
    await assert.rejects(model.save(`file://${file}/deeper`), /was not saved to '.*deeper'.*\nhelp: .*a file/s);
    await assert.rejects(model.save(`file://${root}/x/model.json`), /named like a file/);
    assert.equal(readFileSync(file, 'utf8'), 'mine');
    assert.ok(!readdirSync(root).includes('x'));
  });

  it('such as a folder that takes no other', {
    skip: existsSync('/proc/self') ? false : 'there is no /proc',
  }, async () => {
    for (const folder of ['/proc/none', '/proc/none/deeper']) {
      await assert.rejects(made().save(`file://${folder}`), new RegExp(`was not saved to '${folder}'.*\nhelp: `, 's'));
    }
  });

  it('such as a folder that may not be written to', {
    skip: process.getuid?.() === 0 && 'root may write anywhere',
  }, async () => {
    const folder = join(root, 'locked');
    mkdirSync(folder);
    chmodSync(folder, 0o500);
    await assert.rejects(made().save(`file://${folder}`), /was not saved to '.*locked'.*\nhelp: .*may write to/s);
    assert.deepEqual(readdirSync(folder), []);
  });
});
