/** --clean knows files of ours by what is in them, deletes those and nothing else, and a plan alone changes nothing. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { CheckpointManager } from '../checkpoint/checkpoint-manager.js';
import { LOCK_NAME, ModelDirLock } from '../checkpoint/model-dir-lock.js';
import { encodeTensorFile } from '../checkpoint/safetensors.js';
import { encodeBundle } from '../checkpoint/tensorflow/bundle-writer.js';
import { TENSORFLOW } from '../checkpoint/tensorflow-format.js';
import { ProfilerHook } from '../logs/hooks.js';
import { recordingLog, silentLog } from '../logs/log.js';
import { BenchmarkFileLogger } from '../logs/logger.js';
import { applyClean, carryOutClean, MODEL_DIR_MARKER, planClean } from './clean-model-dir.js';
import { markModelDir } from './model-helpers.js';

describe('--clean', () => {
  let dir = '';
  let model = '';
  const at = (name: string) => path.join(model, name);
  const clean = (modelDir = model, log = silentLog) => applyClean({ clean: true, model_dir: modelDir }, log);
  const checkpoint = (step: number, format: string | null = 'lockstep-resnet') =>
    new CheckpointManager(model, { warn() {} }).save(step, {
      tensors: { w: { shape: [64], values: new Float32Array(64) } },
      metadata: { ...(format && { format }), global_step: String(step) },
    });

  beforeEach(() => {
    dir = mkdtempSync(path.join(tmpdir(), 'clean-'));
    model = path.join(dir, 'model');
    mkdirSync(model);
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  it('deletes what a run writes, says so, and leaves the lock of the run that cleans', async () => {
    markModelDir(model);
    const lock = await ModelDirLock.acquire(model);
    try {
      for (const step of [1, 20]) checkpoint(step);
      const logger = new BenchmarkFileLogger(model, { log: silentLog });
      logger.logMetric('loss', 1);
      logger.logRunInfo({ modelName: 'resnet', datasetName: 'x', parameters: {} });
      const hook = new ProfilerHook({ outputDir: model, saveSteps: 1, log: silentLog });
      hook.begin(0);
      hook.afterRun(1, {}, [{ forward: 1 }]);
      writeFileSync(at('ckpt-5.safetensors.1.tmp'), readFileSync(at('ckpt-1.safetensors')).subarray(0, 100));
      assert.equal(readdirSync(model).length, 8);
      const log = recordingLog();
      assert.equal(clean(model, log), true);
      assert.deepEqual(log.lines, [`info: --clean flag set. Removing existing model dir: ${model}`]);
      assert.deepEqual(readdirSync(model).sort(), [LOCK_NAME, MODEL_DIR_MARKER]);
      assert.equal(clean(model, log), false, 'there is nothing more');
    } finally {
      lock.release();
    }
  });

  it('knows checkpoints in TensorFlow’s format, and leaves a folder with TensorFlow’s own', () => {
    const tensors = { w: { shape: [64], values: new Float32Array(64) } };
    const save = (step: number, format: string) => {
      const manager = new CheckpointManager(model, { format: TENSORFLOW, warn() {} });
      return manager.save(step, { tensors, metadata: { format, global_step: String(step) } });
    };
    for (const step of [1, 2]) save(step, 'lockstep-resnet');
    checkpoint(3);
    // Half deleted, half written, and what a process left that was killed before it wrote a byte.
    rmSync(at('model.ckpt-1.index'));
    writeFileSync(
      at('model.ckpt-7.data-00000-of-00001.1.tmp'),
      readFileSync(at('model.ckpt-1.data-00000-of-00001')).subarray(0, 100),
    );
    writeFileSync(at('model.ckpt-7.index.1.tmp'), '');
    writeFileSync(at('checkpoint.1.tmp'), '');
    assert.equal(clean(), true);
    assert.deepEqual(readdirSync(model), []);
    writeFileSync(
      at('model.ckpt-5.index'),
      encodeBundle([{ name: 'w', dtype: 'float', shape: [64], values: tensors.w.values }]).index,
    );
    assert.throws(() => clean(), /model\.ckpt-5\.index, which no run of lockstep made/);
    rmSync(at('model.ckpt-5.index'));
    save(6, 'somebody-else');
    assert.throws(() => clean(), /model\.ckpt-6\.data-00000-of-00001, which no run of lockstep made/);
  });

  it('knows checkpoints that are cut off by how they begin, and empty files are nobody’s loss', () => {
    for (const [step, bytes] of [
      [1, 300],
      [2, 60],
      [3, 0],
    ] as const)
      truncateSync(checkpoint(step), bytes);
    writeFileSync(at('metric.log'), '');
    assert.equal(clean(), true);
    assert.deepEqual(readdirSync(model), []);
  });

  it('does nothing without the flag or without the folder', () => {
    checkpoint(1);
    assert.equal(applyClean({ clean: false, model_dir: model }, silentLog), false);
    assert.equal(existsSync(at('ckpt-1.safetensors')), true);
    assert.equal(clean(path.join(dir, 'missing')), false);
  });

  it('a plan changes nothing, and what changes after it stays', () => {
    for (const step of [1, 2, 3]) checkpoint(step);
    const plan = planClean({ clean: true, model_dir: model })!;
    assert.deepEqual(
      plan.files.map(({ path: file }) => path.basename(file)),
      [1, 2, 3].map((step) => `ckpt-${step}.safetensors`),
    );
    assert.equal(readdirSync(model).length, 3);
    checkpoint(2);
    rmSync(at('ckpt-3.safetensors'));
    checkpoint(4);
    assert.equal(carryOutClean(plan, silentLog), true);
    assert.deepEqual(readdirSync(model), ['ckpt-2.safetensors', 'ckpt-4.safetensors']);
  });

  it('leaves a folder alone in which anything is that no run made, whatever its name', () => {
    const tensors = { w: { shape: [1], values: Float32Array.of(1) } };
    for (const [name, make] of [
      ['notes.txt', (file) => writeFileSync(file, 'x')],
      ['.git', (file) => mkdirSync(file)],
      ['eval', (file) => mkdirSync(file)],
      ['eval_results', (file) => writeFileSync(file, 'more')],
      ['somebody-elses-model.safetensors', (file) => writeFileSync(file, encodeTensorFile({ tensors, metadata: {} }))],
      ['ckpt-2.safetensors', (file) => writeFileSync(file, encodeTensorFile({ tensors, metadata: { format: 'pt' } }))],
      ['ckpt-2.safetensors', () => checkpoint(2, null)],
      ['ckpt-2.safetensors', (file) => writeFileSync(file, 'weights')],
      ['ckpt-2.safetensors', (file) => mkdirSync(file)],
      ['ckpt-2.safetensors', (file) => symlinkSync(at('ckpt-1.safetensors'), file)],
      ['ckpt-2.safetensors', (file) => assert.equal(spawnSync('mkfifo', [file]).status, 0)],
      ['ckpt-2.safetensors.7.tmp', (file) => writeFileSync(file, 'weights')],
      [
        'ckpt-two.safetensors',
        () => checkpoint(2) && spawnSync('mv', [at('ckpt-2.safetensors'), at('ckpt-two.safetensors')]),
      ],
      ['checkpoint', (file) => writeFileSync(file, 'model_checkpoint_path: "model.ckpt-7"')],
      ['timeline-1.json', (file) => writeFileSync(file, '{"mine": 1}')],
      ['metric.log', (file) => writeFileSync(file, 'accuracy 0.9\n')],
      ['benchmark_run.log', (file) => writeFileSync(file, '{"model_name": "mine"}\n')],
      [MODEL_DIR_MARKER, (file) => writeFileSync(file, 'mine')],
      [LOCK_NAME, (file) => writeFileSync(file, 'mine')],
    ] as [string, (file: string) => void][]) {
      checkpoint(1);
      make(at(name));
      const before = readdirSync(model);
      assert.throws(
        () => clean(),
        ({ message }: Error) =>
          message.startsWith(
            `--clean does not delete --model_dir=${model}: it contains ${name}, which no run of lockstep made.\n`,
          ) && message.includes('help: choose another --model_dir'),
        name,
      );
      assert.deepEqual(readdirSync(model), before, name);
      rmSync(model, { recursive: true });
      mkdirSync(model);
    }
    for (const name of ['a', 'b', 'c', 'd\u001b[2J']) writeFileSync(at(name), '');
    assert.throws(() => clean(), /it contains a, b, c and 1 more, which/);
    writeFileSync(path.join(dir, 'file'), '');
    assert.throws(() => clean(path.join(dir, 'file')), /it is no folder/);
  });

  it('never touches the home, current or temporary folder or a parent of one', () => {
    // Stand-ins that would pass for model folders, so that a failing check costs nothing.
    const { HOME, TMPDIR } = process.env;
    const cwd = process.cwd();
    checkpoint(1);
    try {
      for (const [what, enter, leave] of [
        ['home', () => (process.env.HOME = model), () => (process.env.HOME = HOME)],
        ['temporary', () => (process.env.TMPDIR = model), () => (process.env.TMPDIR = TMPDIR ?? '/tmp')],
        ['current', () => process.chdir(model), () => process.chdir(cwd)],
      ] as const) {
        enter();
        try {
          assert.throws(() => clean(), /it is or contains the/, what);
          assert.throws(() => clean(dir), /it is or contains the/, what);
        } finally {
          leave();
        }
        assert.ok(existsSync(at('ckpt-1.safetensors')));
      }
    } finally {
      if (TMPDIR === undefined) delete process.env.TMPDIR;
    }
    assert.equal(clean(), true);
  });

  it('empties the target of a symbolic link and keeps the link', () => {
    checkpoint(1);
    const link = path.join(dir, 'link');
    symlinkSync(model, link);
    assert.equal(clean(link), true);
    assert.deepEqual(readdirSync(link), []);
  });
});
