/**
 * Whatever is wrong about a command's values is said with the flag, the value, the reason and what to do, before anything is
 * read, made or deleted: folders that cannot be written to, numbers out of reach, names that nobody knows.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { run } from './testing/run.js';

const folder = mkdtempSync(join(tmpdir(), 'early-errors-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const model = join(folder, 'model');

/** Runs without data: an error that is not about them came first. */
async function refused(argv: string[], status: number, ...patterns: RegExp[]): Promise<void> {
  const result = await run([`--data_dir=${join(folder, 'nowhere')}`, `--model_dir=${model}`, ...argv]);
  assert.equal(result.status, status, `${argv}: ${result.text}`);
  for (const pattern of patterns) assert.match(result.text, pattern);
  assert.doesNotMatch(result.text, /^\s+at /m);
  assert.ok(!existsSync(model), `${argv} made ${model}`);
}

describe('a folder that cannot be written to', () => {
  // Not even root makes files there.
  const WHERE = '/sys/kernel';

  it('model_dir: before the data are read, whether it is there or not', { skip: !existsSync(WHERE) }, async () => {
    for (const target of [WHERE, `${WHERE}/a/b`]) {
      await refused(
        [`--model_dir=${target}`],
        1,
        new RegExp(
          `^--model_dir=${target} cannot be written to: (no permission|the disk is read-only) \\(E\\w+\\)\\.$`,
          'm',
        ),
        /^help: choose a folder that you may write to\.$/m,
      );
    }
    // Whoever only evaluates writes nothing, so the data are missed.
    await refused([`--model_dir=${WHERE}`, '--eval_only'], 1, /^Run cifar10_download_and_extract\.py first/m);
  });

  it('model_dir that is a file, or below one', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    for (const target of [file, join(file, 'model')]) {
      await refused([`--model_dir=${target}`], 1, new RegExp(`^--model_dir=${target} cannot be written to: `, 'm'));
    }
  });

  it('benchmark_log_dir', { skip: !existsSync(WHERE) }, async () => {
    await refused(
      ['--benchmark_logger_type=BenchmarkFileLogger', `--benchmark_log_dir=${WHERE}`],
      1,
      /^--benchmark_log_dir=\/sys\/kernel cannot be written to: .* \(E\w+\)\.\nhelp: /m,
    );
  });

  it('leaves nothing behind where it can', async () => {
    const there = join(folder, 'there');
    mkdirSync(there);
    await refused([`--model_dir=${there}`], 1, /^Run cifar10_download_and_extract\.py first/m);
    assert.deepEqual(readdirSync(there), []);
  });

  it('--clean, as somebody who may not: nothing is deleted', { skip: process.getuid?.() !== 0 }, async () => {
    const theirs = join(folder, 'theirs');
    mkdirSync(theirs);
    writeFileSync(join(theirs, '.lockstep-lock'), '');
    execFileSync('chmod', ['755', folder, theirs]);
    process.seteuid?.(65534);
    try {
      await refused(
        [`--model_dir=${theirs}`, '--clean'],
        1,
        /^--model_dir=.*theirs cannot be written to: no permission/m,
      );
    } finally {
      process.seteuid?.(0);
    }
    assert.deepEqual(readdirSync(theirs), ['.lockstep-lock']);
  });
});

describe('a value that cannot be', () => {
  for (const [flag, pattern] of [
    [
      '--hooks=Foo',
      /flag --hooks=Foo: hooks should be of LoggingTensorHook, .*LoggingMetricHook \(Unrecognized training hook requested: Foo\)/,
    ],
    ['--hooks=LoggingTensorHook,', /Unrecognized training hook requested: /],
    ['--model_dir=', /flag --model_dir=: model_dir should be a path/],
    ['--data_dir=', /flag --data_dir=: data_dir should be a path/],
    ['--data_dir=a\0b', /data_dir should be a path/],
    ['--pretrained_model_checkpoint_path=', /pretrained_model_checkpoint_path should be a path/],
    ['--benchmark_log_dir=', /benchmark_log_dir should be a path/],
    ['--stop_threshold=nan', /flag --stop_threshold=NaN: stop_threshold should be a number/],
    ['--weight_decay=inf', /weight_decay should be a finite number/],
    ['--batch_norm_decay=1', /batch_norm_decay should be less than 1/],
    ['--lr_boundary_epochs=1,,2', /lr_boundary_epochs should be epochs/],
    ['--lr_boundary_epochs=0x10', /lr_boundary_epochs should be epochs/],
    ['--num_cpus=1000000000', /flag --num_cpus=1000000000: value should be in the range \[-1, 1024\]/],
    ['--num_gpus=1000000000', /flag --num_gpus=1000000000: value should be at most 1024/],
    ['--num_gpus=1', /flag --num_gpus=1: no GPU is offered here\. Use --num_gpus=0/],
    ['--intra_op_parallelism_threads=1000000000', /intra_op_parallelism_threads=1000000000: value should be in/],
    ['--datasets_num_private_threads=1000000000', /datasets_num_private_threads=1000000000: value should be in/],
    ['--worker_lost_secs=inf', /flag --worker_lost_secs=inf: value should be in the range \[0\.1, 2000000\]/],
    ['--batch_size=1000000000000', /flag --batch_size=1000000000000: its images alone, in 2 batches, take .* GB/],
    [
      '--label_smoothing=0.1',
      /flag --label_smoothing=0\.1: the CIFAR-10 main does not smooth labels, as upstream\. Leave it out\./,
    ],
    ['--train_epochs=1e3', /flag --train_epochs=1e3: value should be an integer/],
  ] as const) {
    it(flag.replace('\0', '\\0'), () => refused([flag], 2, pattern));
  }

  it('is taken from a flag file as well, and is named with its line', async () => {
    const file = join(folder, 'run.flags');
    writeFileSync(file, '# a run\n--batch_size=0\n');
    await refused(
      [`--flagfile=${file}`],
      2,
      /flag --batch_size=0 \(.*run\.flags, line 2\): value should be at least 1/,
    );
  });
});

describe('a flag file that is none', () => {
  it('is refused without being printed or waited for', async () => {
    const binary = join(folder, 'binary');
    writeFileSync(binary, Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 0x1b, 0x5b, 0x32, 0x4a, 10]));
    const latin = join(folder, 'latin');
    writeFileSync(latin, Buffer.from([0x2d, 0x2d, 0xe9, 10]));
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    for (const [file, reason] of [
      [binary, 'it is not a text file'],
      [latin, 'it is not a text file'],
      [pipe, 'it is a named pipe'],
      [folder, 'it is a folder'],
      [join(folder, 'none'), 'it is not there \\(ENOENT\\)'],
    ]) {
      await refused(
        [`--flagfile=${file}`],
        2,
        new RegExp(`^flag --flagfile=${file}: the file cannot be read: ${reason}\\. Name an existing text file`, 'm'),
      );
    }
  });
});

describe('epochs without number', () => {
  it('are trained as far as one gets', async () => {
    const { status, text } = await run([
      `--model_dir=${join(folder, 'endless')}`,
      ...['--use_synthetic_data', '--max_train_steps=1', `--train_epochs=${Number.MAX_SAFE_INTEGER}`],
      '--epochs_between_evals=1',
    ]);
    assert.equal(status, 0, text);
    assert.match(text, new RegExp(`^Starting cycle: 0/${Number.MAX_SAFE_INTEGER}$`, 'm'));
    assert.match(text, /^Evaluation at step 1: /m);
  });
});

describe('what a program around the main prepares', () => {
  it('sees the flags as they are, those of a flag file too; and is not asked for help or for what cannot be', async () => {
    const file = join(folder, 'cpu.flags');
    writeFileSync(file, '--backend=cpu\n');
    const seen: unknown[] = [];
    const prepare = (flags: { get(name: 'backend'): unknown }) => {
      seen.push(flags.get('backend'));
      throw new Error('that is enough');
    };
    const prepared = async (...argv: string[]) => (await run(argv, { prepare })).status;
    assert.equal(await prepared(`--flagfile=${file}`), 1);
    assert.equal(await prepared('--backend=cpu', '--backend', 'onednn'), 1);
    assert.equal(await prepared('--help'), 0);
    assert.equal(await prepared('--batch_size=0'), 2);
    assert.deepEqual(seen, ['cpu', 'onednn']);
  });
});
