/**
 * `lockstep start`: the flags that it adds, and the whole thing, as a person runs it: 97 % accuracy at least. How long that
 * takes is for the bench, not for a test.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { scaledBoundaries, startFlags } from './start.js';

const BIN = fileURLToPath(new URL('../bin.js', import.meta.url));

describe('lockstep start', () => {
  it('scales the official boundaries (91 and 136 of 182 epochs) to the epochs asked for', () => {
    assert.deepEqual(scaledBoundaries(182), [91, 136]);
    assert.deepEqual(scaledBoundaries(12), [6, 9]);
    assert.deepEqual(scaledBoundaries(5), [2.5, 3.7]);
  });

  it('adds its defaults, and none for what was typed, by any name', () => {
    const names = (...argv: string[]) => startFlags(argv, 2).flags.map((flag) => flag.slice(2, flag.indexOf('=')));
    assert.ok(startFlags([], 2).flags.includes('--lr_boundary_epochs=6,9'));
    assert.ok(startFlags(['-te', '20'], 2).flags.includes('--lr_boundary_epochs=10,14.9'));
    for (const typed of [['--train_epochs=3'], ['-te', '3'], ['--te=3']]) {
      assert.ok(!names(...typed).includes('train_epochs'), typed.join(' '));
    }
    assert.ok(!names('--norandom_flip').includes('random_flip'));
    assert.deepEqual(
      [startFlags([], 2), startFlags(['--model_dir=m'], 2), startFlags(['--eval_only'], 2)].map((s) => s.trainsAnew),
      [true, false, false],
    );
    // By --clean, which deletes after every check and what runs wrote only.
    for (const typed of [[], ['--resume'], ['--model_dir=m'], ['--eval_only'], ['--noclean']]) {
      assert.equal(startFlags(typed, 2).flags.includes('--clean=true'), typed.length === 0, typed.join(' '));
    }
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
