/**
 * The weights of a short seeded run of each strategy, to the bit: what is rebuilt inside must not change what is trained.
 *
 * It runs on TensorFlow.js' own kernels, which compute the same bits on every machine. A hash below changes only when what is
 * computed is meant to change, and then its commit says so.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { prepareFewDigits } from '@lockstep/official/data/testing/few-digits';
import { decodeTensorFile } from '@lockstep/official/utils/checkpoint/safetensors';
import { lockstep, mpirun, type ProcessResult, whyNoMpirun } from '../testing/process.js';

/** Weights, momenta and moving statistics after two steps: of one replica with two images, of two with one image each. */
const EXPECTED = {
  synthetic: {
    one: '42f2584c7b5482843d4b253e4a538f4e1fc2845c47ce5964e96df59b6d8fb4ea',
    two: 'ab280c8635c7b51acfe32c8d3d0d8dfaf90ce081c74feda921678adff55c1761',
  },
  digits: {
    one: '64501eb47cff57a6350ed035b7b3f0652152f24ddae0c3464e27dd68f2dccabf',
    two: '7b85a31335451cc0835460e96289e39af3a6c71b31721f592e81ca25431933fb',
  },
} as const;

const folder = mkdtempSync(join(tmpdir(), 'lockstep-weights-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const LIMIT = { limitSeconds: 200 };
const STEPS = 2;
let data = '';

const flags = (modelDir: string, ...more: string[]) => [
  'cifar10',
  `--model_dir=${join(folder, modelDir)}`,
  ...[
    '--backend=cpu',
    '--resnet_size=8',
    '--train_epochs=1',
    `--max_train_steps=${STEPS}`,
    '--batch_size=2',
    '--seed=1',
  ],
  ...['--hooks=', '--progress=none'],
  ...more,
];

/** Of all tensors, in the order of their names. */
function hash(modelDir: string): string {
  const { tensors } = decodeTensorFile(readFileSync(join(folder, modelDir, `ckpt-${STEPS}.safetensors`)));
  const sum = createHash('sha256');
  for (const name of Object.keys(tensors).sort()) {
    const { shape, values } = tensors[name] as (typeof tensors)[string];
    sum.update(`${name} [${shape}]\n`).update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return sum.digest('hex');
}

function check(result: ProcessResult, modelDir: string, expected: string): void {
  assert.equal(result.status, 0, result.describe());
  assert.equal(hash(modelDir), expected, modelDir);
}

for (const input of ['synthetic', 'digits'] as const) {
  const inputFlags = () => (input === 'synthetic' ? ['--use_synthetic_data'] : [`--data_dir=${data}`]);

  describe(`the weights of a short run: ${input}`, () => {
    before(() => {
      data = prepareFewDigits(join(folder, 'digits'), 3);
    });

    it('one device', async () => {
      check(await lockstep(flags(`${input}-one`, ...inputFlags()), LIMIT), `${input}-one`, EXPECTED[input].one);
    });

    it('mirrored over two replicas', async () => {
      const more = ['--num_cpus=2', '--distribution_strategy=mirrored', ...inputFlags()];
      check(await lockstep(flags(`${input}-two`, ...more), LIMIT), `${input}-two`, EXPECTED[input].two);
    });

    it('two workers, as two replicas', { skip: whyNoMpirun() }, async () => {
      const result = await mpirun(2, flags(`${input}-workers`, '--batch_size=1', ...inputFlags()), LIMIT);
      check(result, `${input}-workers`, EXPECTED[input].two);
    });

    it('a worker and a parameter server, as one device', { skip: whyNoMpirun() }, async () => {
      const more = ['--distribution_strategy=parameter_server', ...inputFlags()];
      const environment = { LOCKSTEP_NUM_PS: '1' };
      check(
        await mpirun(2, flags(`${input}-server`, ...more), { ...LIMIT, environment }),
        `${input}-server`,
        EXPECTED[input].one,
      );
    });
  });
}
