/**
 * `import '@lockstep/onednn'` beside a strategy, as programs of users write it: its devices are offered whichever import comes first,
 * and replicas that got `cpu` although nobody asked for it are warned of once, with what to do.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type HostAccess, hostAccess } from '@lockstep/distribute';
import { OneDnnBackend } from '@lockstep/onednn';
import * as tf from '@tensorflow/tfjs-core';
import { transformSync } from 'esbuild';
import { start } from './testing/process.js';

const IMPORT = "import '@lockstep/onednn';";
const STRATEGY = "import { MirroredStrategy, unregisterDeviceProvider } from '@lockstep/distribute';";
const RUN = `for (let i = 0; i < 2; i++) {
  const strategy = new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'] });
  console.log('replicas: ' + await strategy.run(new URL('./train.js', import.meta.url)));
}`;
const NOWHERE = { LOCKSTEP_DNNL_LIBRARY: '/nowhere/libdnnl.so.2' };
/** What replicas run: says what computes, with a value that must be right. */
const TRAIN = `import * as tf from '@tensorflow/tfjs-core';
export default () => tf.getBackend() + tf.matMul(tf.ones([1, 3]), tf.ones([3, 1])).dataSync()[0];`;

describe('a program with a strategy', () => {
  // Inside the package, so that its imports are found.
  let folder = '';
  before(() => {
    const parent = fileURLToPath(new URL('../.lockstep/', import.meta.url));
    mkdirSync(parent, { recursive: true });
    folder = mkdtempSync(join(parent, 'programs-'));
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const run = async (program: string, environment: NodeJS.ProcessEnv = {}, train = TRAIN) => {
    writeFileSync(join(folder, 'train.js'), train);
    writeFileSync(join(folder, 'main.js'), program);
    const result = await start(process.execPath, [join(folder, 'main.js')], { environment }).result;
    assert.equal(result.status, 0, result.describe());
    const computed = [...result.output.matchAll(/^replicas: (.*)$/gm)].map((match) => match[1]);
    assert.equal(computed.length, 2, result.describe());
    const warnings = result.output.match(/^warning: replicas compute on TensorFlow\.js' own backend 'cpu'/gm) ?? [];
    return { computed: [...new Set(computed)], warnings: warnings.length, output: result.output };
  };

  it('computes on oneDNN by the import alone, before or after the other, and says so', async () => {
    const late = `${STRATEGY}\nawait import('@lockstep/onednn');\n${RUN}`;
    for (const program of [`${IMPORT}\n${STRATEGY}\n${RUN}`, `${STRATEGY}\n${IMPORT}\n${RUN}`, late]) {
      const { computed, warnings, output } = await run(program);
      assert.deepEqual(computed, ['onednn3,onednn3'], output);
      assert.equal(warnings, 0, output);
      assert.match(output, /^MirroredStrategy on cpu:0, cpu:1 \(onednn\): gradients are reduced by /m);
    }
  });

  it('that does not import it is told to, once; an import in the replicas alone is not enough', async () => {
    for (const train of [TRAIN, `${IMPORT}\n${TRAIN}`]) {
      const { computed, warnings, output } = await run(`${STRATEGY}\n${RUN}`, {}, train);
      assert.deepEqual(computed, ['cpu3,cpu3'], output);
      assert.equal(warnings, 1, output);
      assert.match(output, /^MirroredStrategy on cpu:0, cpu:1 \(cpu\): /m);
      assert.match(
        output,
        /^help: write `import '@lockstep\/onednn';` in the program that calls strategy\.run\(\)\.$/m,
      );
    }
  });

  it('ends without the library, and is told what to install; not if it means `cpu`', async () => {
    writeFileSync(join(folder, 'train.js'), TRAIN);
    writeFileSync(join(folder, 'main.js'), `${IMPORT}\n${STRATEGY}\n${RUN}`);
    const { status, output } = await start(process.execPath, [join(folder, 'main.js')], { environment: NOWHERE })
      .result;
    assert.equal(status, 1, output);
    assert.match(output, /oneDNN was not found\. Tried: \/nowhere\/libdnnl\.so\.2 .*\n\s*help: .*apt-get install /m);
    const meant = await run(`${IMPORT}\n${STRATEGY}\nunregisterDeviceProvider('onednn');\n${RUN}`, NOWHERE);
    assert.deepEqual(meant.computed, ['cpu3,cpu3'], meant.output);
  });

  it('that takes the provider out means `cpu`, before or after the import, and hears nothing of it', async () => {
    const out = "unregisterDeviceProvider('onednn');";
    for (const program of [
      `${IMPORT}\n${STRATEGY}\n${out}\n${RUN}`,
      `${STRATEGY}\n${out}\nawait import('@lockstep/onednn');\n${RUN}`,
    ]) {
      const { computed, warnings, output } = await run(program);
      assert.deepEqual(computed, ['cpu3,cpu3'], output);
      assert.equal(warnings, 0, output);
    }
  });

  it("is the README's: its two files together, five marked lines, compute on oneDNN without a word of warning", async () => {
    const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
    const blocks = [...readme.matchAll(/^```ts\n(\/\/ (train|main)\.ts\b.*?)^```/gms)];
    assert.deepEqual(
      blocks.map((block) => block[2]),
      ['train', 'main'],
    );
    for (const [, code, name] of blocks) {
      writeFileSync(join(folder, `${name}.js`), transformSync(code as string, { loader: 'ts' }).code);
    }
    const marks = [...readme.matchAll(/\/\/ Lockstep: (\d) of 5$/gm)].map((match) => match[1]);
    assert.deepEqual(marks, ['1', '2', '3', '4', '5']);
    const { status, output, describe: shown } = await start(process.execPath, [join(folder, 'main.js')]).result;
    assert.equal(status, 0, shown());
    assert.match(output, /^MirroredStrategy on cpu:0, cpu:1 \(onednn\): gradients are reduced by [^\n]*\n$/);
  });
});

describe('two packages that do not import each other', () => {
  it("meet by shape: distribute reaches oneDNN's memory by what the backend hands over, where no device module ran", async () => {
    assert.equal(await tf.setBackend('onednn'), true);
    const backend = tf.backend();
    assert.ok(backend instanceof OneDnnBackend);
    const own: HostAccess = backend.hostAccess;
    assert.equal(hostAccess(), own);
  });
});
