/** `lockstep init`: what it writes is type-checked and run, as its reader would; and it writes over nothing. */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { lockstep, start } from '../testing/process.js';

const MODULES = fileURLToPath(new URL('../../../../node_modules', import.meta.url));
const FILES = ['.gitignore', 'README.md', 'package.json', 'train.ts', 'tsconfig.json'];

describe('lockstep init', () => {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-init-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const init = (...words: string[]) => lockstep(['init', ...words], { cwd: folder });
  const project = (name: string) => join(folder, name);

  it('writes a project that type-checks, trains on one replica and on two, and saves what it trained', async () => {
    const name = 'My Spirals 2';
    const written = await init(name);
    assert.equal(written.status, 0, written.describe());
    assert.match(written.output, /cd My Spirals 2\n {2}npm install\n {2}npm start/);
    assert.deepEqual(readdirSync(project(name)).sort(), FILES);
    const manifest = JSON.parse(readFileSync(join(project(name), 'package.json'), 'utf8'));
    assert.equal(manifest.name, 'my-spirals-2');
    const own = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    assert.equal(manifest.dependencies['@lockstep/distribute'], own.version);
    assert.equal(manifest.dependencies['@tensorflow/tfjs-core'], own.dependencies['@tensorflow/tfjs-core']);

    symlinkSync(MODULES, join(project(name), 'node_modules'));
    const at = { cwd: project(name), limitSeconds: 200 };
    const compiled = await start(process.execPath, [join(MODULES, 'typescript/bin/tsc')], at).result;
    assert.equal(compiled.status, 0, compiled.describe());
    for (const replicas of [1, 2]) {
      rmSync(join(project(name), 'model'), { recursive: true, force: true });
      const run = await start(process.execPath, ['dist/train.js', `--replicas=${replicas}`], at).result;
      assert.equal(run.status, 0, run.describe());
      assert.match(run.output, /^MirroredStrategy on cpu:0(, cpu:1)? \(onednn\): /m);
      assert.equal([...run.output.matchAll(/^epoch \d+\/12 {2}loss [\d.e-]+ {2}acc /gm)].length, 12, run.describe());
      // Two spirals: guessing is right about half of the points.
      const [, accuracy] = /^accuracy on other points: ([\d.]+) %$/m.exec(run.output) ?? [];
      assert.ok(Number(accuracy) > 90, run.describe());
      // The main thread read what a replica saved.
      const [, right] = /^the model in model\/ is right about (\d+) of 500$/m.exec(run.output) ?? [];
      assert.equal((Number(right) / 5).toFixed(1), accuracy, run.describe());
      assert.deepEqual(readdirSync(join(project(name), 'model')).sort(), ['model.json', 'weights.bin']);
    }
  });

  it('marks the five lines', () => {
    const text = readFileSync(join(project('My Spirals 2'), 'train.ts'), 'utf8');
    const marks = [...text.matchAll(/\/\/ Lockstep: (\d) of 5$/gm)].map((match) => match[1]);
    assert.deepEqual(marks, ['1', '2', '3', '4', '5']);
  });

  it('takes an empty folder, one of git too, and none that has something in it', async () => {
    mkdirSync(join(project('fresh'), '.git'), { recursive: true });
    const fresh = await init('fresh');
    assert.equal(fresh.status, 0, fresh.describe());
    assert.ok(existsSync(join(project('fresh'), 'train.ts')));

    mkdirSync(project('used'));
    writeFileSync(join(project('used'), 'train.ts'), 'mine');
    const used = await init('used');
    assert.equal(used.status, 1, used.describe());
    assert.match(used.output, /^used is not empty: it has train\.ts\. Nothing was written\.\nhelp: /);
    assert.deepEqual(readdirSync(project('used')), ['train.ts']);
    assert.equal(readFileSync(join(project('used'), 'train.ts'), 'utf8'), 'mine');

    writeFileSync(project('file'), '');
    assert.match((await init('file')).output, /^file is no folder\.\nhelp: /);
    const below = await init('file/below');
    assert.equal(below.status, 1, below.describe());
    assert.match(below.output, /^file\/below cannot be written to: .*\nhelp: /);
  });

  it('takes one folder', async () => {
    for (const words of [[], ['a', 'b']]) {
      const result = await init(...words);
      assert.equal(result.status, 2, result.describe());
      assert.match(result.output, /^lockstep init takes one folder, got (none|a, b)/);
    }
    assert.ok(!existsSync(project('a')));
  });
});
