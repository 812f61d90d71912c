/**
 * `bench models`: its networks have the parameters that they should have by hand, and the losses that PyTorch's have from the same weights;
 * its figures by hand; and the command itself.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { configure } from '@lockstep/onednn';
import * as tf from '@tensorflow/tfjs-core';
import { lockstep } from '../testing/process.js';
import { lossWarning, type ModelsReport, type ModelsRow } from './models.js';
import { NETWORKS, type NetworkName } from './networks.js';
import { betterMalloc, blasWarning, PyTorch, type TorchResult, type TorchSettings } from './pytorch.js';

const PYTHON = '/usr/bin/python3';
const hasTorch = 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)';
const noTorch =
  spawnSync(PYTHON, ['-c', hasTorch]).status === 0
    ? false
    : `${PYTHON} has no torch (apt-get install python3-torch libopenblas0-pthread)`;
/** One process for all: importing torch takes longer than their steps. One thread: two that wait for each other take long on a busy machine. */
const PEERS = `
import json, sys
sys.dont_write_bytecode = True
peers, folder, *names = sys.argv[1:]
sys.path.insert(0, peers)
from pytorch_models import training
from stopwatch import set_up
set_up(1)
results = {}
for name in names:
    step, _, parameters = training(name, folder + "/" + name)
    results[name] = {"parameters": parameters, "losses": [step(), step(), step()]}
print(json.dumps(results))
`;
const NAMES = Object.keys(NETWORKS) as NetworkName[];
const folder = mkdtempSync(join(tmpdir(), 'bench-models-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const linear = (from: number, to: number) => from * to + to;
const convolution = (size: number, from: number, to: number) => size * size * from * to + to;
const separable = (from: number, to: number) => 9 * from + 2 * from + from * to + 2 * to;
const twice = (from: number, to: number) => convolution(3, from, to) + convolution(3, to, to);

/** What is trained, by hand. */
const PARAMETERS: Readonly<Record<NetworkName, number>> = {
  mlp: linear(784, 512) + linear(512, 256) + linear(256, 10),
  cnn: twice(3, 32) + twice(32, 64) + twice(64, 128) + linear(4 * 4 * 128, 128) + linear(128, 10),
  // Four gates, each of inputs, state and a bias.
  lstm: 4 * (64 * 128 + 128 * 128 + 128) + linear(128, 10),
  transformer:
    256 * 128 +
    64 * 128 +
    2 * (linear(128, 3 * 128) + linear(128, 128) + linear(128, 512) + linear(512, 128) + 4 * 128) +
    linear(128, 256),
  mobilenet:
    9 * 3 * 32 +
    2 * 32 +
    separable(32, 64) +
    separable(64, 128) +
    separable(128, 128) +
    separable(128, 256) +
    separable(256, 256) +
    separable(256, 512) +
    separable(512, 512) +
    linear(512, 10),
  unet:
    twice(3, 16) +
    twice(16, 32) +
    twice(32, 64) +
    convolution(2, 64, 32) +
    twice(64, 32) +
    convolution(2, 32, 16) +
    twice(32, 16) +
    convolution(1, 16, 1),
};

describe('the networks', () => {
  before(() => {
    configure({ threads: 1 });
    return tf.setBackend('onednn');
  });
  const build = (name: NetworkName) => NETWORKS[name]((optimizer) => optimizer);

  it('have their parameters', () => {
    for (const name of NAMES) {
      const weights = build(name).weights();
      assert.equal(
        weights.reduce((sum, { length }) => sum + length, 0),
        PARAMETERS[name],
        name,
      );
    }
  });

  it("have PyTorch's losses from the same weights", { skip: noTorch }, async (t) => {
    const losses = new Map<NetworkName, number[]>();
    for (const name of NAMES) {
      const network = build(name);
      const weights = network.weights().map((values) => Buffer.from(values.slice().buffer));
      writeFileSync(join(folder, name), Buffer.concat(weights));
      losses.set(name, [await network.step(), await network.step(), await network.step()]);
    }
    const env = { ...process.env, OMP_NUM_THREADS: '1', OPENBLAS_NUM_THREADS: '1' };
    const peers = fileURLToPath(new URL('../../peers', import.meta.url));
    const python = spawnSync(PYTHON, ['-c', PEERS, peers, folder, ...NAMES], { encoding: 'utf8', env });
    assert.equal(python.status, 0, python.stderr);
    const theirs = JSON.parse(python.stdout) as Record<NetworkName, { parameters: number; losses: number[] }>;
    for (const [name, ours] of losses) {
      t.diagnostic(`${name}: ${ours.join(', ')}; PyTorch: ${theirs[name].losses.join(', ')}`);
      assert.equal(theirs[name].parameters, PARAMETERS[name], name);
      // The second and third are what Adam made of the gradients; of some it is a step up or down by their last digit.
      for (const [i, tolerance] of [1e-5, 5e-3, 0.02].entries()) {
        const loss = ours[i] as number;
        assert.ok(Math.abs(loss - (theirs[name].losses[i] as number)) < tolerance * loss, `${name}, step ${i}`);
      }
    }
  });
});

describe('the peer', () => {
  const settings: TorchSettings = { peer: 'PyTorch 2', threads: 2, blas: 'libopenblasp-r0.3.21.so', slow_blas: false };
  const result = (rate: number): TorchResult => ({
    ...settings,
    examples_per_second: rate,
    step_ms: 1,
    first_losses: [],
  });

  it('counts with the malloc that suits it, by the median', () => {
    const rounds = [
      { default: result(90), kept: result(10) },
      { default: result(20), kept: result(30) },
      { default: result(20), kept: result(40) },
    ];
    assert.deepEqual(betterMalloc(rounds), { malloc: 'kept', examplesPerSecond: 30 });
    assert.deepEqual(betterMalloc(rounds.slice(0, 1)), { malloc: 'default', examplesPerSecond: 90 });
  });

  it('of bench peers takes a step', { skip: noTorch }, async () => {
    const args = { dataset: 'cifar10', resnet_size: 8, batch_size: 2, dtype: 'fp32', warmup: 1, steps: 2 };
    const step = await new PyTorch('pytorch_resnet.py', PYTHON, 1).run(args, 'kept');
    assert.match(step.peer, /^PyTorch \d/);
    assert.ok(Math.abs(step.examples_per_second * step.step_ms - 2000) < 1e-6);
    assert.equal(step.first_losses.length, 3);
  });

  it('flatters us with a slow BLAS, which is said', () => {
    assert.equal(blasWarning(settings), null);
    assert.match(
      blasWarning({ ...settings, blas: 'libblas.so.3.11.0', slow_blas: true }) as string,
      /with libblas\.so\.3\.11\.0, .*\nhelp: apt-get install libopenblas0-pthread$/,
    );
  });

  it('is not the same network if parameters or first losses differ', () => {
    const row = {
      ...{ model: 'mlp', parameters: 5, pytorch_parameters: 5 },
      ...{ first_losses: [2, 1], pytorch_first_losses: [2.0001, 1.005] },
    } as unknown as ModelsRow;
    assert.equal(lossWarning(row), null);
    assert.equal(lossWarning({ ...row, pytorch_first_losses: null }), null);
    assert.match(
      lossWarning({ ...row, pytorch_parameters: 6 }) as string,
      /^mlp is not the same .* 5 and 6 parameters/,
    );
    assert.match(lossWarning({ ...row, pytorch_first_losses: [2, 1.1] }) as string, /first losses 2, 1 and 2, 1\.1\.$/);
  });
});

describe('lockstep bench models', () => {
  const short = ['bench', 'models', '--only=mlp', '--steps=1', '--warmup=2', '--rounds=1', '--threads=1', '--json'];
  const reportOf = (output: string) =>
    JSON.parse(output.split('\n').find((line) => line.startsWith('{')) as string) as ModelsReport;

  it('measures us alone', async () => {
    const { status, output } = await lockstep([...short, '--nopytorch']);
    assert.equal(status, 0, output);
    const { rows, ...others } = reportOf(output);
    assert.deepEqual(others, { threads: 1, pytorch: null, geometric_mean: null });
    const [row] = rows as [ModelsRow];
    assert.equal(rows.length, 1);
    assert.deepEqual([row.model, row.batch_size, row.parameters], ['mlp', 128, PARAMETERS.mlp]);
    assert.equal(row.first_losses.length, 3);
    assert.deepEqual([row.ratio, row.pytorch_examples_per_second, row.pytorch_malloc], [null, null, null]);
    assert.ok(Math.abs(row.step_ms * row.examples_per_second - 128_000) < 1);
    const { one_thread_examples_per_second: one, two_replicas_examples_per_second: two, scaling } = row;
    // Of one round.
    assert.ok(one > 0 && Math.abs(two / one - scaling) < 1e-9);
  });

  it('measures PyTorch beside us', { skip: noTorch }, async () => {
    const { status, output } = await lockstep(short, { limitSeconds: 200 });
    assert.equal(status, 0, output);
    assert.doesNotMatch(output, /not the same on both sides/);
    const { rows, pytorch, geometric_mean: mean } = reportOf(output);
    const [row] = rows as [ModelsRow];
    assert.match(pytorch?.peer as string, /^PyTorch \d/);
    assert.equal(pytorch?.threads, 1);
    assert.ok(output.startsWith(`${pytorch?.peer}, 1 thread, ${pytorch?.blas}; `));
    assert.equal(row.pytorch_parameters, PARAMETERS.mlp);
    assert.ok(
      Math.abs((row.ratio as number) - row.examples_per_second / (row.pytorch_examples_per_second as number)) < 1e-9,
    );
    assert.ok(Math.abs((mean as number) - (row.ratio as number)) < 1e-9);
  });

  it('says what is missing, and what it has not', async () => {
    const missing = await lockstep([...short, '--python=/nowhere/python3']);
    assert.equal(missing.status, 1, missing.output);
    assert.match(missing.output, /^PyTorch could not be measured with \/nowhere\/python3: .*ENOENT/);
    assert.match(
      missing.output,
      /help: apt-get install python3-torch libopenblas0-pthread, .*--nopytorch measures us alone/,
    );
    const other = await lockstep(['bench', 'models', '--only=vgg']);
    assert.equal(other.status, 2, other.output);
    assert.match(other.output, /flag --only: no model's name has 'vgg' in it/);
  });
});
