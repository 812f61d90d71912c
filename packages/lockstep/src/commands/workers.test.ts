/**
 * `lockstep cifar10` in several processes under real mpirun, on the embedded digits: what is trained is what one process
 * trains with as many replicas, only the chief writes, and what it wrote goes on in another number of processes.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { prepareFewDigits } from '@lockstep/official/data/testing/few-digits';
import { decodeTensorFile, type TensorFile } from '@lockstep/official/utils/checkpoint/safetensors';
import {
  BIN,
  lockstep,
  mpirun,
  mpirunArguments,
  ranksOf,
  start,
  startMpirun,
  whyNoMpirun,
} from '../testing/process.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-workers-'));
after(() => rmSync(folder, { recursive: true, force: true }));

let data = '';
const flags = (modelDir: string, steps: number, ...more: string[]) => [
  'cifar10',
  `--data_dir=${data}`,
  `--model_dir=${join(folder, modelDir)}`,
  '--resnet_size=8',
  '--train_epochs=1',
  `--max_train_steps=${steps}`,
  '--seed=1',
  '--hooks=',
  '--progress=plain',
  '--intra_op_parallelism_threads=1',
  ...more,
];

function checkpoint(modelDir: string, step: number): TensorFile {
  return decodeTensorFile(readFileSync(join(folder, modelDir, `ckpt-${step}.safetensors`)));
}

/** Largest difference of two checkpoints' tensors, relative to the tensor's largest value; 0 only for equal bits. */
function difference(left: TensorFile, right: TensorFile): number {
  assert.deepEqual(Object.keys(left.tensors), Object.keys(right.tensors));
  let worst = 0;
  for (const [name, { values }] of Object.entries(left.tensors)) {
    const others = right.tensors[name]?.values as Float32Array;
    assert.equal(values.length, others.length, name);
    const largest = (values as Float32Array).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const [i, value] of values.entries()) {
      const gap = Math.abs(value - (others[i] as number));
      if (!(gap === 0)) worst = Math.max(worst, gap / (largest || 1));
    }
  }
  return worst;
}

const evaluationOf = (output: string) =>
  /Evaluation at step .*: accuracy (\S+) %, top 5 (\S+) %/.exec(output)?.slice(1);

describe('lockstep cifar10 under mpirun', { skip: whyNoMpirun() }, () => {
  let alone: { evaluation: string[] | undefined };

  before(async () => {
    data = prepareFewDigits(join(folder, 'digits'), 101);
    // Saving averages the moving statistics, so the run to compare with is interrupted at the same place.
    const more = ['--batch_size=32', '--num_cpus=2', '--distribution_strategy=mirrored'];
    const first = await lockstep(flags('mirrored', 5, ...more));
    assert.equal(first.status, 0, first.describe());
    const result = await lockstep(flags('mirrored', 8, ...more));
    assert.equal(result.status, 0, result.describe());
    alone = { evaluation: evaluationOf(result.output) };
    assert.ok(alone.evaluation, result.describe());
  });

  it('two workers train bit by bit what two replicas of one process train; only the chief writes', async () => {
    // Every rank has a folder of its own, so whoever writes is found out.
    const own = (steps: number) => flags('own/$OMPI_COMM_WORLD_RANK', steps, '--batch_size=16').join(' ');
    const run = (steps: number) =>
      start('mpirun', [
        ...mpirunArguments(2),
        ...['sh', '-c', `exec ${process.execPath} ${BIN} ${own(steps)} --distribution_strategy=multi_worker_mirrored`],
      ]).result;
    const first = await run(5);
    assert.equal(first.status, 0, first.describe());
    assert.deepEqual(
      readdirSync(join(folder, 'own', '0')).filter((name) => name.endsWith('.safetensors')),
      ['ckpt-5.safetensors'],
    );
    assert.equal(existsSync(join(folder, 'own', '1')), false, 'rank 1 made a folder');
    assert.equal(first.ranks[1] ?? '', '', `rank 1 spoke:\n${first.ranks[1]}`);

    // The chief alone has the checkpoint; the others go on from it all the same.
    const second = await run(8);
    assert.equal(second.status, 0, second.describe());
    assert.match(second.ranks[0] as string, /Restored step 5 from/);
    assert.equal(difference(checkpoint('mirrored', 8), checkpoint('own/0', 8)), 0);
    assert.deepEqual(evaluationOf(second.output), alone.evaluation);
    assert.equal(existsSync(join(folder, 'own', '1')), false);
  });

  /**
   * What two sums that differ by rounding may make of the weights. After one step no more than that. From then on one of the millions of
   * activations next to 0 may fall on the other side of it, and a gradient without that pixel is off by per cents; a replica too few would make
   * it a quarter or more.
   */
  const ROUNDING = { first: 1e-6, later: 0.15 } as const;

  it('three workers in rank order, for any number of packs; the ring and bf16 to rounding', async () => {
    const bound: [string, steps: number, most: number, string[]][] = [
      ['packs', 4, 0, ['--num_packs=4']],
      ['ring-1', 1, ROUNDING.first, ['--all_reduce_alg=ring', '--num_packs=3']],
      ['ring-4', 4, ROUNDING.later, ['--all_reduce_alg=ring', '--num_packs=3']],
      // Each gradient element is off by at most 2⁻⁷ of itself; four steps of momentum add up a few of them.
      ['bf16', 4, ROUNDING.later, ['--gradient_dtype=bf16']],
    ];
    for (const steps of [1, 4]) {
      const more = ['--batch_size=24', '--num_cpus=3', '--distribution_strategy=mirrored'];
      const one = await lockstep(flags(`mirrored3-${steps}`, steps, ...more));
      assert.equal(one.status, 0, one.describe());
    }
    for (const [name, steps, most, more] of bound) {
      const result = await mpirun(3, flags(name, steps, '--batch_size=8', ...more));
      assert.equal(result.status, 0, result.describe());
      const worst = difference(checkpoint(`mirrored3-${steps}`, steps), checkpoint(name, steps));
      assert.ok(worst <= most, `${name}: ${worst}`);
      if (name === 'bf16') assert.ok(worst > 0, 'bf16 changed nothing');
    }
  });

  it('two workers of two replicas: sums within a worker come first, so equal to rounding', async () => {
    for (const [steps, most] of [
      [1, ROUNDING.first],
      [4, ROUNDING.later],
    ] as const) {
      const together = ['--batch_size=32', '--num_cpus=4', '--distribution_strategy=mirrored'];
      const one = await lockstep(flags(`mirrored4-${steps}`, steps, ...together));
      assert.equal(one.status, 0, one.describe());
      const twice = ['--batch_size=16', '--num_cpus=2', '--distribution_strategy=multi_worker_mirrored'];
      const result = await mpirun(2, flags(`twice2-${steps}`, steps, ...twice));
      assert.equal(result.status, 0, result.describe());
      assert.match(result.output, /num_workers = 2, local_devices = \('cpu:0', 'cpu:1'\)/);
      const worst = difference(checkpoint(`mirrored4-${steps}`, steps), checkpoint(`twice2-${steps}`, steps));
      assert.ok(worst <= most, String(worst));
    }
  });

  it('a dynamic loss scale goes on where the checkpoint left it, on every worker', async () => {
    const scaleOf = (step: number) => {
      const { current_loss_scale: value, good_steps: goodSteps } = checkpoint('scaled', step).metadata;
      return [value, goodSteps];
    };
    for (const [steps, expected] of [
      [3, ['32768', '3']],
      [7, ['32768', '7']],
    ] as const) {
      const result = await mpirun(2, flags('scaled', steps, '--batch_size=8', '--loss_scale=dynamic'));
      assert.equal(result.status, 0, result.describe());
      assert.deepEqual(scaleOf(steps), expected);
    }
  });

  it('names the ranks whose flags differ', async () => {
    const command = `exec ${process.execPath} ${BIN} ${flags('differ', 4).join(' ')} --weight_decay=0.$OMPI_COMM_WORLD_RANK`;
    const result = await start('mpirun', [...mpirunArguments(2), 'sh', '-c', command]).result;
    assert.equal(result.status, 1, result.describe());
    assert.match(
      result.output,
      /The ranks do not run the same thing. Different: flags \(rank 0: weight_decay=0; rank 1: weight_decay=0\.1\)/,
      result.describe(),
    );
    assert.equal(existsSync(join(folder, 'differ', 'ckpt-4.safetensors')), false);
  });

  it('SIGTERM reaches one rank, all stop at the same step and the chief saves', async () => {
    const running = startMpirun(2, flags('stopped', 100_000, '--train_epochs=400', '--batch_size=16'));
    await running.until(/step 1\//);

    const second = ranksOf(running.child.pid as number).get(1) as number;
    process.kill(second, 'SIGTERM');
    const result = await running.result;
    assert.equal(result.status, 130, result.describe());
    assert.match(result.output, /Stopped because another worker was told to; all stop at the same step\./);
    const saved = readdirSync(join(folder, 'stopped')).filter((name) => name.endsWith('.safetensors'));
    assert.equal(saved.length, 1, result.describe());
    const step = Number(/\d+/.exec(saved[0] as string)?.[0]);
    const again = await mpirun(2, flags('stopped', step + 2, '--train_epochs=400', '--batch_size=16'));
    assert.equal(again.status, 0, again.describe());
    assert.match(again.output, new RegExp(`Restored step ${step} from`));
  });

  it('a signal that comes when a rank has stopped already does not change how it ends', async () => {
    // What mpirun hands on to all ranks reaches them one after the other; here it comes as late as can be.
    const hook = join(folder, 'late-signal.mjs');
    writeFileSync(
      hook,
      `import { isMainThread } from 'node:worker_threads';
       if (isMainThread) process.on('exit', () => process.kill(process.pid, 'SIGUSR2'));`,
    );
    const result = await mpirun(2, flags('late-signal', 2, '--batch_size=16'), {
      environment: { NODE_OPTIONS: `--import=${hook}` },
    });
    assert.equal(result.status, 0, result.describe());
    assert.ok(existsSync(join(folder, 'late-signal', 'ckpt-2.safetensors')));
  });

  it('outside mpirun, prints the command to type', async () => {
    const more = ['--worker_hosts=localhost:1,localhost:2', '--task_index=0'];
    const result = await lockstep([...flags('alone', 4), ...more]);
    assert.equal(result.status, 1, result.describe());
    const command = /^help: (mpirun -np 2 .*)$/m.exec(result.output)?.[1];
    assert.ok(command, result.describe());
    assert.ok(!command.includes('worker_hosts') && !command.includes('task_index'), command);
    const typed = await start('sh', ['-c', command]).result;
    assert.equal(typed.status, 0, typed.describe());
    assert.ok(existsSync(join(folder, 'alone', 'ckpt-4.safetensors')));
  });
});
