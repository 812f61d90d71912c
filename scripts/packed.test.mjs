// The five packages as a user gets them: packed, installed from their archives into an empty folder outside the workspace, and used. What the
// workspace has by chance (a file that is not published, a dependency that nobody declared, types that only tsc -b finds) is not there.
//
// One folder is installed for all cases. Where the registry cannot be reached, the suite is skipped and says so.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { blocksOf, programsOf, readPages, writePrograms } from './docs-blocks.mjs';
import { readManifest, root } from './package-fields.mjs';
import { run } from './run-test-file.mjs';

const INSTALL_LIMIT_MS = 180_000;
const LIMIT_MS = 120_000;
/** What npm says when nobody answers. */
const NO_NETWORK = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ENOTCACHED|ERR_SOCKET_TIMEOUT/;
const TOOLS = ['typescript@5.9', '@types/node@20', 'esbuild@0.28.2', 'vitest@4'];
/** Versions of Node beside the one that runs the tests: the oldest that is promised, and the newest there is. */
const NODES = ['20.11.1', '22', 'latest'];

const base = mkdtempSync(join(tmpdir(), 'lockstep-packed-'));
const app = join(base, 'app');
let archives = [];
/** What is there, and said, where everything but @lockstep/webgpu is installed. */
let withoutGpus = null;
/** Why the packages could not be installed, if it is nobody's fault. */
let offline = null;

const range = readManifest(join(root, 'packages', 'onednn')).peerDependencies['@tensorflow/tfjs-core'];
const [, lowest] = /^>=(\S+) /.exec(range);

/** @returns null, or why not: the registry does not answer. @throws Error for any other reason. */
async function install(folder, packages) {
  mkdirSync(folder, { recursive: true });
  const manifest = join(folder, 'package.json');
  if (!existsSync(manifest)) writeFileSync(manifest, JSON.stringify({ name: 'app', private: true, type: 'module' }));
  const options = ['--no-audit', '--no-fund', '--prefer-offline', '--no-progress', '--loglevel=error'];
  const { status, output } = await run('npm', ['install', ...options, ...packages], {
    limit: INSTALL_LIMIT_MS,
    cwd: folder,
  });
  if (status === 0) return null;
  if (NO_NETWORK.test(output)) return `the package registry does not answer: ${output.trim().split('\n')[0]}`;
  throw new Error(`npm install ${packages.join(' ')}: ${output}`);
}

const write = (name, text, folder = app) => writeFileSync(join(folder, name), text);

/** Runs a program in the folder; @returns its output. */
async function succeed(command, args, { cwd = app, env = {} } = {}) {
  const { status, output } = await run(command, args, {
    limit: LIMIT_MS,
    cwd,
    env: { NODE_TEST_CONTEXT: undefined, ...env },
  });
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${output}`);
  return output;
}

const node = (args, options) => succeed(process.execPath, args, options);
const bin = (name) => join(app, 'node_modules', '.bin', name);

/** A model of the kinds of layers that people use, on every replica. */
const TRAIN = `
import * as tf from '@tensorflow/tfjs';
export default async function train(context) {
  const x = tf.randomNormal([64, 12, 12, 1], 0, 1, 'float32', 7);
  const y = tf.oneHot(tf.range(0, 64, 1, 'int32').mod(tf.scalar(10, 'int32')), 10).toFloat();
  const data = context.shard({ x, y });
  const model = tf.sequential({ layers: [
    tf.layers.conv2d({ inputShape: [12, 12, 1], filters: 8, kernelSize: 3, activation: 'relu' }),
    tf.layers.batchNormalization(), tf.layers.flatten(), tf.layers.dense({ units: 10, activation: 'softmax' })] });
  context.mirror(model);
  model.compile({ optimizer: context.optimizer(tf.train.momentum(0.05, 0.9)), loss: 'categoricalCrossentropy' });
  const { history } = await model.fit(data.x, data.y, { epochs: 6, batchSize: 16, verbose: 0 });
  return { backend: tf.getBackend(), learned: history.loss.at(-1) < history.loss[0] };
}
`;
const MAIN = `
import { deviceProvider } from '@lockstep/onednn';
import { MirroredStrategy, registerDeviceProvider } from '@lockstep/distribute';
import * as tf from '@tensorflow/tfjs';
registerDeviceProvider(deviceProvider);
await tf.ready();
const replicas = await new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'] }).run(new URL('./train.js', import.meta.url));
const model = tf.sequential({ layers: [
  tf.layers.lstm({ units: 4, inputShape: [5, 3] }), tf.layers.layerNormalization(), tf.layers.dense({ units: 1 })] });
model.compile({ optimizer: 'adam', loss: 'meanSquaredError' });
await model.fit(tf.ones([8, 5, 3]), tf.zeros([8, 1]), { epochs: 2, verbose: 0 });
const folder = 'file://./saved-' + process.version;
await model.save(folder, { includeOptimizer: true });
const again = await tf.loadLayersModel(folder + '/model.json');
const same = tf.equal(model.predict(tf.ones([1, 5, 3])), again.predict(tf.ones([1, 5, 3]))).all().dataSync()[0];
console.log('RESULT ' + JSON.stringify({ here: tf.getBackend(), replicas, same }));
`;
/** With batch norm, whose statistics are averaged before. */
const SAVE_FROM_REPLICAS = `
import * as tf from '@tensorflow/tfjs';
import { save } from './sample.js';
export default async function train(context) {
  const model = tf.sequential({ layers: [
    tf.layers.dense({ units: 4, inputShape: [3] }), tf.layers.batchNormalization(), tf.layers.dense({ units: 1 })] });
  context.mirror(model);
  await save(context, model);
}
`;
/** A driver of Debian's Chromium: a GPU that the CPU computes. */
const SOFTWARE_GPU = '/usr/lib/chromium/vk_swiftshader_icd.json';
const TRAIN_ON_GPU = `
import * as tf from '@tensorflow/tfjs';
export default async function train(context) {
  const x = tf.randomNormal([32, 12, 12, 1], 0, 1, 'float32', 7 + context.replicaIdInSyncGroup);
  const filter = tf.variable(tf.truncatedNormal([3, 3, 1, 4], 0, 0.3, 'float32', 1));
  const dense = tf.variable(tf.truncatedNormal([576, 1], 0, 0.1, 'float32', 2));
  const trainer = context.trainer([filter, dense], { optimizer: { kind: 'momentum', momentum: 0.9 } });
  const loss = () => {
    const image = tf.relu(tf.conv2d(x, filter, 1, 'same'));
    return tf.mean(tf.square(tf.sub(tf.matMul(tf.reshape(image, [32, 576]), dense), 1)));
  };
  const losses = [];
  for (let step = 0; step < 4; step++) losses.push((await trainer.step(loss, 0.01)).loss);
  return losses;
}
`;
const MAIN_ON_GPU = `
import '@lockstep/webgpu';
import { MirroredStrategy } from '@lockstep/distribute';
const run = async (...devices) => (await new MirroredStrategy({ devices }).run(new URL('./train.js', import.meta.url)))[0];
console.log('RESULT ' + JSON.stringify({ gpu: await run('gpu:0', 'gpu:1'), cpu: await run('cpu:0', 'cpu:1') }));
`;
const NAMES = ['@lockstep/onednn', '@lockstep/webgpu', '@lockstep/distribute', '@lockstep/official', 'lockstep'];
const EXPECTED = {
  here: 'onednn',
  replicas: [
    { backend: 'onednn', learned: true },
    { backend: 'onednn', learned: true },
  ],
  same: 1,
};

function resultOf(output) {
  const line = /^RESULT (.*)$/m.exec(output);
  assert.ok(line, output);
  return JSON.parse(line[1]);
}

/** The programs of a package's README: together in one folder, as the README means them. */
function samples(packageName) {
  const readme = join(app, 'node_modules', packageName, 'README.md');
  return programsOf(blocksOf(readme, readFileSync(readme, 'utf8')).blocks);
}

/** The programs of all other pages, but for those of the workspace's own sources: [{ page, path }], each in a folder of its own. */
function writePages(folder) {
  return readPages(root).flatMap(({ file, blocks }) => {
    if (file.startsWith('packages/')) return [];
    const programs = programsOf(blocks).filter(({ name }) => !name.startsWith('packages/'));
    return writePrograms(join(folder, file.replaceAll(/\W/g, '_')), programs).map((path) => ({ page: file, path }));
  });
}

describe('packages, packed and installed', () => {
  before(async () => {
    // As docs/using-a-clone.md has it.
    await succeed('npm', ['pack', '--workspaces', '--pack-destination', base], { cwd: root });
    archives = readdirSync(base)
      .filter((name) => name.endsWith('.tgz'))
      .map((name) => join(base, name));
    assert.equal(archives.length, 5);
    const isOptional = (path) => path.includes('webgpu');
    const needed = archives.filter((path) => !isOptional(path));
    offline = await install(app, [...needed, '@tensorflow/tfjs@4.22.0', ...TOOLS]);
    if (offline === null) {
      // 100 MB of Dawn are for those who ask for them.
      withoutGpus = {
        found: ['webgpu', '@lockstep/webgpu', '@tensorflow/tfjs-backend-webgpu'].filter((name) =>
          existsSync(join(app, 'node_modules', name)),
        ),
        devices: await succeed(bin('lockstep'), ['devices']),
        refused: await run(bin('lockstep'), ['cifar10', '--num_gpus=1'], { limit: LIMIT_MS, cwd: app }),
      };
      offline = await install(app, archives.filter(isOptional));
    }
    write('train.js', TRAIN);
    write('main.js', MAIN);
  });
  after(() => rmSync(base, { recursive: true, force: true }));

  /** A test of the installed folder, skipped with the reason where it could not be installed. */
  const installed = (name, body) =>
    it(name, async (t) => {
      if (offline !== null) t.skip(offline);
      else await body(t);
    });

  installed('have one TensorFlow.js, their README and licence, and the other half of bench peers', () => {
    const modules = join(app, 'node_modules');
    for (const name of NAMES) {
      for (const file of ['README.md', 'LICENSE']) assert.ok(existsSync(join(modules, name, file)), `${name}/${file}`);
      assert.ok(
        !existsSync(join(modules, name, 'node_modules', '@tensorflow')),
        `${name} has a TensorFlow.js of its own`,
      );
    }
    for (const name of ['stopwatch', 'pytorch_resnet', 'pytorch_models']) {
      assert.ok(existsSync(join(modules, `lockstep/peers/${name}.py`)), name);
    }
  });

  installed(
    'without @lockstep/webgpu nothing of it is there, and a command that asks for GPUs says what to install',
    () => {
      const { found, devices, refused } = withoutGpus;
      assert.deepEqual(found, []);
      const advice = /no GPU is offered here\.[\s\S]*`npm install @lockstep\/webgpu`/;
      assert.match(devices, advice);
      assert.equal(refused.status, 2, refused.output);
      assert.match(refused.output, advice);
    },
  );

  installed('ES modules: replicas train on oneDNN; a recurrent model trains, is saved and loaded', async () => {
    assert.deepEqual(resultOf(await node(['main.js'])), EXPECTED);
  });

  installed('CommonJS, through import()', async () => {
    write(
      'main.cjs',
      `(async () => {
        const { deviceProvider } = await import('@lockstep/onednn');
        const { MirroredStrategy, registerDeviceProvider } = await import('@lockstep/distribute');
        const tf = require('@tensorflow/tfjs');
        await tf.ready();
        registerDeviceProvider(deviceProvider);
        const replicas = await new MirroredStrategy({ devices: ['cpu:0'] })
          .run(require('node:url').pathToFileURL(require('node:path').join(__dirname, 'train.js')));
        console.log('RESULT ' + JSON.stringify({ here: tf.getBackend(), replicas }));
      })();`,
    );
    assert.deepEqual(resultOf(await node(['main.cjs'])), { here: 'onednn', replicas: EXPECTED.replicas.slice(0, 1) });
  });

  installed(
    'strict TypeScript takes all programs of the documentation, as nodenext and as a bundler resolves; READMEs and docs/saving.md run',
    async () => {
      const files = [];
      const last = {};
      for (const name of NAMES) {
        const folder = join('readme', name.replace(/.*\//, ''));
        mkdirSync(join(app, folder), { recursive: true });
        const blocks = samples(name);
        assert.ok(blocks.length > 0, `${name} has no sample`);
        for (const { name: file, code } of blocks) write(join(folder, file), code);
        files.push(...blocks.map(({ name: file }) => join(folder, file)));
        last[name] = { cwd: join(app, folder), file: blocks.at(-1).name.replace(/\.ts$/, '.js') };
      }
      const pages = writePages(join(app, 'readme'));
      assert.ok(pages.length > 20, `${pages.length} programs`);
      files.push(...pages.map(({ path }) => relative(app, path)));
      const options = ['--strict', '--target', 'es2022', '--types', 'node'];
      const tsc = (...more) => run(bin('tsc'), [...options, ...more, ...files], { limit: LIMIT_MS, cwd: app });
      const bundler = await tsc('--module', 'esnext', '--moduleResolution', 'bundler', '--noEmit', '--skipLibCheck');
      assert.equal(bundler.status, 0, bundler.output);
      // Without --skipLibCheck, our own declarations are checked too. TensorFlow.js' are not right everywhere.
      const { output } = await tsc('--module', 'nodenext');
      const ours = output.split('\n').filter((line) => /^(readme\/|node_modules\/(@lockstep\/|lockstep\/))/.test(line));
      assert.deepEqual(ours, []);

      const printed = {};
      for (const name of NAMES) printed[name] = await node([last[name].file], { cwd: last[name].cwd });
      assert.match(printed['@lockstep/onednn'], /^onednn$/m);
      assert.match(printed['@lockstep/webgpu'], /^\[/m);
      assert.match(printed['@lockstep/distribute'], /\[ 'onednn', 'onednn' \]/);
      assert.match(printed['@lockstep/official'], /^0$/m);
      assert.match(printed.lockstep, /^cpu:0 .*onednn/m);

      const [alone, fromReplicas] = pages.filter(({ page }) => page === 'docs/saving.md').map(({ path }) => path);
      const cwd = dirname(fromReplicas);
      await node([alone.replace(/ts$/, 'js')], { cwd });
      assert.deepEqual(readdirSync(join(cwd, 'my-model')).sort(), ['model.json', 'weights.bin']);
      rmSync(join(cwd, 'my-model'), { recursive: true });
      // Replicas: the page's own function.
      write('train.js', SAVE_FROM_REPLICAS, cwd);
      write('main.js', MAIN, cwd);
      await node(['main.js'], { cwd });
      assert.deepEqual(readdirSync(join(cwd, 'my-model')).sort(), ['model.json', 'weights.bin']);
    },
  );

  installed('esbuild: with packages external it runs; all in one file it says what to do', async () => {
    write(
      'single.js',
      `import { isMainThread } from 'node:worker_threads';
       import { deviceProvider } from '@lockstep/onednn';
       import { MirroredStrategy, registerDeviceProvider } from '@lockstep/distribute';
       export { default } from './train.js';
       if (isMainThread) {
         registerDeviceProvider(deviceProvider);
         const replicas = await new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'] }).run(import.meta.url);
         console.log('RESULT ' + JSON.stringify(replicas));
       }`,
    );
    const bundle = (file, ...more) =>
      succeed(bin('esbuild'), [
        'single.js',
        '--bundle',
        '--platform=node',
        '--format=esm',
        '--log-level=error',
        `--outfile=${file}`,
        ...more,
      ]);
    await bundle('out/external.mjs', '--packages=external');
    assert.deepEqual(resultOf(await node(['out/external.mjs'])), EXPECTED.replicas);
    // TensorFlow.js itself needs a require() in a module.
    await bundle(
      'out/all.mjs',
      `--banner:js=import{createRequire as r}from'node:module';const require=r(import.meta.url);`,
    );
    const { status, output } = await run(process.execPath, ['out/all.mjs'], { limit: LIMIT_MS, cwd: app });
    assert.equal(status, 1, output);
    assert.match(output, /help: leave packages out of the bundle: .*--packages=external/);
    assert.match(output, /docs\/bundlers\.md/);
  });

  installed('Vitest', async () => {
    write(
      'train.test.js',
      `import '@lockstep/onednn';
       import { deviceProvider } from '@lockstep/onednn';
       import { MirroredStrategy, registerDeviceProvider } from '@lockstep/distribute';
       import * as tf from '@tensorflow/tfjs';
       import { expect, test } from 'vitest';
       test('here', async () => {
         await tf.ready();
         expect(tf.getBackend()).toBe('onednn');
         expect(tf.tensor([1, 2]).mul(3).arraySync()).toEqual([3, 6]);
       });
       test('replicas', async () => {
         registerDeviceProvider(deviceProvider);
         const replicas = await new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'] }).run(new URL('./train.js', import.meta.url));
         expect(replicas).toEqual(${JSON.stringify(EXPECTED.replicas)});
       }, 60000);`,
    );
    const output = await succeed(bin('vitest'), ['run', '--no-color', 'train.test.js'], {
      env: { CI: '1', NO_COLOR: '1' },
    });
    assert.match(output, /Tests +2 passed/);
  });

  installed('the command: npx lockstep', async () => {
    const { version } = readManifest(join(root, 'packages', 'lockstep'));
    assert.equal((await succeed(bin('lockstep'), ['--version'])).trim(), `lockstep ${version}`);
    assert.match(await succeed(bin('lockstep'), ['devices']), /^cpu:0 .*onednn/m);
  });

  installed(`TensorFlow.js ${lowest}, the lower end of the peer range`, async (t) => {
    const old = join(base, 'lowest');
    // A project that has it already, and adds the packages: what it has is in the range, so it stays the only copy.
    const why =
      (await install(old, [`@tensorflow/tfjs@${lowest}`])) ??
      (await install(
        old,
        archives.filter((path) => /onednn|distribute/.test(path)),
      ));
    if (why !== null) return t.skip(why);
    assert.equal(readManifest(join(old, 'node_modules/@tensorflow/tfjs-core')).version, lowest);
    assert.ok(!existsSync(join(old, 'node_modules/@tensorflow/tfjs/node_modules')), 'there is a second TensorFlow.js');
    write('train.js', TRAIN, old);
    write('main.js', MAIN, old);
    assert.deepEqual(resultOf(await node(['main.js'], { cwd: old })), EXPECTED);
  });

  installed(`a GPU, with TensorFlow.js ${lowest}`, async (t) => {
    if (!existsSync(SOFTWARE_GPU)) return t.skip(`no ${SOFTWARE_GPU}`);
    const folder = join(base, 'gpu');
    const why =
      (await install(
        folder,
        ['', '-backend-webgpu'].map((name) => `@tensorflow/tfjs${name}@${lowest}`),
      )) ??
      (await install(
        folder,
        archives.filter((path) => /webgpu|distribute/.test(path)),
      ));
    if (why !== null) return t.skip(why);
    write('train.js', TRAIN_ON_GPU, folder);
    write('main.js', MAIN_ON_GPU, folder);
    const env = { LOCKSTEP_SOFTWARE_GPU: '1', LOCKSTEP_LOGICAL_GPUS: '2', VK_ICD_FILENAMES: SOFTWARE_GPU };
    const { gpu, cpu } = resultOf(await node(['main.js'], { cwd: folder, env }));
    assert.equal(gpu.length, 4);
    for (const [i, loss] of cpu.entries()) assert.ok(Math.abs(gpu[i] - loss) < 1e-4 * loss, `${gpu}, expected ${cpu}`);
  });

  for (const version of NODES) {
    installed(`Node ${version}`, async (t) => {
      // What the npm package 'node' installs by a script: the program of this platform.
      const name = `node-${process.platform}-${process.arch}`;
      const folder = join(base, `node-${version}`);
      const why = await install(folder, [`${name}@${version}`]);
      if (why !== null) return t.skip(why);
      const program = join(folder, 'node_modules', name, 'bin', 'node');
      const said = (await succeed(program, ['--version'])).trim();
      if (version !== 'latest') assert.match(said, new RegExp(`^v${version.replaceAll('.', '\\.')}(\\.|$)`));
      t.diagnostic(`Node ${said}`);
      assert.deepEqual(resultOf(await succeed(program, ['main.js'])), EXPECTED);
    });
  }
});
