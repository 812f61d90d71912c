/**
 * The documented install: what would be published, in an empty folder, beside the packages of the install line in docs/backend.md
 * and nothing else. The page's first example runs there, and every recurrent layer is made and trained.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, it } from 'node:test';

const own = dirname(import.meta.dirname);
const page = readFileSync(join(own, '../../docs/backend.md'), 'utf8');
const root = realpathSync(mkdtempSync(join(tmpdir(), 'lockstep-packed-')));
after(() => rmSync(root, { recursive: true, force: true }));

function run(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8', timeout: 120_000 });
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** The folder of an installed package, wherever it was put. */
function folderOf(name: string): string {
  const places = createRequire(import.meta.url).resolve.paths(name) ?? [];
  const found = places.map((place) => join(place, name)).find((folder) => existsSync(folder));
  return realpathSync(found as string);
}

describe('the packed backend beside what its page tells to install', () => {
  const [, line] = /^npm install @lockstep\/onednn (.*)$/m.exec(page) as unknown as [string, string];
  const example = /```ts\n([\s\S]*?)```/.exec(page)?.[1] as string;
  const target = join(root, 'node_modules/@lockstep');
  mkdirSync(target, { recursive: true });
  run('npm', ['pack', '--pack-destination', root], own);
  const archive = readdirSync(root).find((name) => name.endsWith('.tgz')) as string;
  run('tar', ['-xzf', archive, '-C', target], root);
  run('mv', ['package', 'onednn'], target);
  const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(target, 'onednn/package.json'), 'utf8'));
  for (const name of [...line.split(/\s+/), ...Object.keys(dependencies)]) {
    const link = join(root, 'node_modules', name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(folderOf(name), link);
  }
  writeFileSync(join(root, 'package.json'), '{ "type": "module" }');

  it('the line names every package that the backend asks for', () => {
    assert.deepEqual(line.split(/\s+/).sort(), Object.keys(peerDependencies).sort());
  });

  it('runs the example, which needs nothing else', () => {
    writeFileSync(join(root, 'example.mjs'), `${example}console.log(tf.getBackend());`);
    assert.match(run(process.execPath, ['example.mjs'], root), /^onednn$/m);
    assert.deepEqual(readdirSync(join(root, 'my-model')).sort(), ['model.json', 'weights.bin']);
  });

  it('makes and trains every recurrent layer', () => {
    const program = `
      import '@lockstep/onednn';
      import * as tf from '@tensorflow/tfjs-core';
      import { layers, sequential } from '@tensorflow/tfjs-layers';
      const made = [
        [layers.lstm({ units: 8, inputShape: [5, 4] }), [2, 5, 4]],
        [layers.gru({ units: 8, inputShape: [5, 4] }), [2, 5, 4]],
        [layers.simpleRNN({ units: 8, inputShape: [5, 4] }), [2, 5, 4]],
        [layers.convLstm2d({ filters: 4, kernelSize: 3, inputShape: [2, 8, 8, 3] }), [2, 2, 8, 8, 3]],
        [layers.bidirectional({ layer: layers.lstm({ units: 3 }), inputShape: [5, 4] }), [2, 5, 4]],
      ];
      for (const [layer, shape] of made) {
        const model = sequential({ layers: [layer] });
        model.compile({ optimizer: 'adam', loss: 'meanSquaredError' });
        console.log('loss', await model.trainOnBatch(tf.ones(shape), tf.zeros([2, ...model.outputShape.slice(1)])));
      }`;
    writeFileSync(join(root, 'recurrent.mjs'), program);
    const losses = run(process.execPath, ['recurrent.mjs'], root).match(/^loss [\d.e-]+$/gm) ?? [];
    assert.equal(losses.length, 5);
  });
});
