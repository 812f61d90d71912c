/**
 * `lockstep start`: the flags that it adds, and the whole thing, as a person runs it: 97 % accuracy at least, and what a second one does. How long that
 * takes is for the bench, not for a test.
 */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { lockstep } from '../testing/process.js';
import { fittedDecay, scaledBoundaries } from './short-run.js';
import { startFlags } from './start.js';

const BIN = fileURLToPath(new URL('../bin.js', import.meta.url));

describe('lockstep start', () => {
  it('scales the official boundaries (91 and 136 of 182 epochs) to the epochs asked for', () => {
    assert.deepEqual(scaledBoundaries(182), [91, 136]);
    assert.deepEqual(scaledBoundaries(12), [6, 9]);
    assert.deepEqual(scaledBoundaries(5), [2.5, 3.7]);
  });

  it('lets batch norm average over a hundredth of the run, ten steps where it has them, never more than officially', () => {
    const span = (steps: number) => 1 / (1 - fittedDecay(steps));
    // The rule in its own words: 1 %, and its two bounds.
    for (const steps of [1000, 1690, 5000, 20_000, 33_000]) {
      assert.ok(Math.abs(span(steps) / (steps / 100) - 1) < 0.15, `${steps} steps: ${span(steps)}`);
    }
    assert.deepEqual([141, 282, 1000].map(fittedDecay), [0.9, 0.9, 0.9]);
    assert.equal(fittedDecay(71_172), 0.997);
    assert.equal(fittedDecay(Number.POSITIVE_INFINITY), 0.997);
    for (const steps of [0, 1, 6, 20]) {
      const decay = fittedDecay(steps);
      // What an average begins with, 0 and 1, has gone by the end of a run, but for a thousandth part at most.
      assert.ok(decay >= 0 && decay ** Math.max(1, steps) < 1e-3, `${steps} steps: ${decay}`);
    }
    const decayOf = (...argv: string[]) => startFlags(argv, 2).flags.find((flag) => flag.includes('batch_norm_decay'));
    assert.equal(decayOf('--train_epochs=1'), '--batch_norm_decay=0.9');
    assert.equal(decayOf('--max_train_steps=20'), '--batch_norm_decay=0.5');
    assert.equal(decayOf('--batch_norm_decay=0.5'), undefined);
  });

  it('adds its defaults, and none for what was typed, by any name', () => {
    const names = (...argv: string[]) => startFlags(argv, 2).flags.map((flag) => flag.slice(2, flag.indexOf('=')));
    assert.ok(startFlags([], 2).flags.includes('--lr_boundary_epochs=6,9'));
    assert.ok(startFlags(['-te', '20'], 2).flags.includes('--lr_boundary_epochs=10,14.9'));
    for (const typed of [['--train_epochs=3'], ['-te', '3'], ['--te=3']]) {
      assert.ok(!names(...typed).includes('train_epochs'), typed.join(' '));
    }
    assert.ok(!names('--norandom_flip').includes('random_flip'));
    // Nothing is deleted that nobody asked to delete.
    assert.ok(!names().includes('clean'));
    const modelOf = (...argv: string[]) => startFlags(argv, 2).flags.find((flag) => flag.startsWith('--model_dir='));
    assert.equal(modelOf(), '--model_dir=lockstep-data/digits-model');
    assert.equal(modelOf('--data_dir=/data/cifar10/'), '--model_dir=lockstep-data/cifar10-model');
    assert.equal(modelOf('--use_synthetic_data'), '--model_dir=lockstep-data/synthetic-model');
    assert.equal(modelOf('--model_dir=mine'), undefined);
    assert.equal(startFlags(['--data_dir=cifar10'], 2).usesDigits, false);
    // A mistake is left to the command, which names it.
    assert.ok(names('--no_such_flag').includes('train_epochs'));
    assert.equal(startFlags(['--help'], 2).isHelp, true);
  });

  it('makes replicas whose number divides the batch, on any number of cores', () => {
    const replicas = (cores: number) => startFlags([], cores).flags.find((flag) => flag.startsWith('--num_cpus='));
    assert.deepEqual([1, 2, 3, 4, 6, 64].map(replicas), [
      '--num_cpus=1',
      '--num_cpus=2',
      '--num_cpus=2',
      '--num_cpus=4',
      '--num_cpus=4',
      '--num_cpus=4',
    ]);
  });

  it('after one epoch is judged by what it learned', { timeout: 280_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'start-short-'));
    try {
      const run = await lockstep(['start', '--train_epochs=1'], { cwd: folder, limitSeconds: 250 });
      assert.equal(run.status, 0, run.describe());
      // Guessing is right about one digit in ten, and so is the network where averages still begin. About 88 is usual.
      const [, accuracy] = run.output.match(/Accuracy on the held-out digits: ([\d.]+) %/) ?? [];
      assert.ok(Number(accuracy) > 70, run.describe());
      assert.match(
        run.output,
        /^Fitted to 1 epoch: the learning rate falls at epochs 0\.5 and 0\.7, .* about 10 steps /m,
      );
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('reads at least 97 % of the held-out digits', { timeout: 280_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'start-'));
    try {
      const { stdout, stderr } = await promisify(execFile)(process.execPath, [BIN, 'start'], { cwd: folder });
      const [, accuracy] = stdout.match(/Accuracy on the held-out digits: ([\d.]+) %/) ?? [];
      assert.ok(Number(accuracy) >= 97, stdout + stderr);
      assert.match(stdout, /What to try next:/);
      const [, checkpoint] = stdout.match(/Checkpoint: (\S+)/) ?? [];
      assert.ok(
        readdirSync(join(folder, 'lockstep-data', 'digits-model')).includes(checkpoint?.split('/').at(-1) ?? ''),
      );
      assert.doesNotMatch(stderr, /Benchmark run|Starting cycle/);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('a second `lockstep start`', () => {
  const folder = mkdtempSync(join(tmpdir(), 'start-again-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const START = ['start', '--progress=plain', '--resnet_size=8', '--batch_size=16', '--num_cpus=1'];
  const MODEL = join(folder, 'lockstep-data', 'digits-model');
  const run = async (...more: string[]) => {
    const result = await lockstep([...START, '--distribution_strategy=off', ...more], { cwd: folder });
    return { ...result, files: readdirSync(MODEL).filter((name) => name.startsWith('ckpt-')) };
  };

  it('keeps the model, says so, goes on where more is asked for, and deletes by --clean alone', async () => {
    const first = await run('--max_train_steps=6');
    assert.equal(first.status, 0, first.describe());
    assert.match(first.output, /^Fitted to 12 epochs: .* \(--batch_norm_decay=0; officially 333 steps of 71,000\)\.$/m);
    assert.deepEqual(first.files, ['ckpt-6.safetensors']);
    const bytes = readFileSync(join(MODEL, 'ckpt-6.safetensors'));

    for (const steps of [6, 3]) {
      const again = await run(`--max_train_steps=${steps}`);
      assert.equal(again.status, 0, again.describe());
      assert.match(
        again.output,
        /digits-model is at step 6 already, so it is evaluated only\. .* --clean trains anew\.$/m,
      );
      assert.match(again.output, /^Accuracy on the held-out digits: [\d.]+ %; nothing was trained\.$/m);
      assert.deepEqual(again.files, ['ckpt-6.safetensors']);
      assert.deepEqual(readFileSync(join(MODEL, 'ckpt-6.safetensors')), bytes, 'the model is the same, bit by bit');
    }

    const deeper = await run('--max_train_steps=6', '--resnet_size=14');
    assert.equal(deeper.status, 2, deeper.describe());
    assert.match(deeper.output, /flag --resnet_size=14: \S+digits-model holds a ResNet-8 v1, .*ResNet-14 v1/);
    assert.match(deeper.output, /--model_dir=lockstep-data\/digits-model-14-v1, or add --clean/);
    const other = await run('--max_train_steps=6', '--resnet_version=2');
    assert.equal(other.status, 2, other.describe());
    assert.match(other.output, /flag --resnet_version=2: .*holds a ResNet-8 v1/);
    assert.deepEqual(other.files, ['ckpt-6.safetensors']);

    const more = await run('--max_train_steps=9');
    assert.equal(more.status, 0, more.describe());
    assert.match(more.output, /^Going on with what is in lockstep-data\/digits-model, from step 6 on\./m);
    assert.match(more.output, /^Restored step 6 from /m);
    assert.deepEqual(more.files.sort(), ['ckpt-6.safetensors', 'ckpt-9.safetensors']);

    const anew = await run('--max_train_steps=2', '--clean');
    assert.equal(anew.status, 0, anew.describe());
    assert.match(anew.output, /^--clean flag set\. Removing existing model dir: /m);
    assert.deepEqual(anew.files, ['ckpt-2.safetensors']);
  });

  it('prints commands that a shell takes as they stand, whatever the folder is called', async () => {
    const { status, output } = await lockstep(
      [...START, '--distribution_strategy=off', '--max_train_steps=1', "--model_dir=Ann's model"],
      { cwd: folder },
    );
    assert.equal(status, 0, output);
    const [, first = ''] = /^The same as: (lockstep cifar10 .*)$/m.exec(output) ?? [];
    const [, last = ''] = /^ {2}npx (lockstep serve .*)$/m.exec(output) ?? [];
    const words = (command: string) => {
      const { stdout } = spawnSync('sh', ['-c', `printf '%s\\n' ${command}`], { encoding: 'utf8' });
      return stdout.trimEnd().split('\n');
    };
    assert.ok(words(first).includes("--model_dir=Ann's model"), output);
    assert.deepEqual(words(last), ['lockstep', 'serve', "Ann's model"], output);
  });
});
