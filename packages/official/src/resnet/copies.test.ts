/**
 * A run on devices whose tensors are copies: what it trains, restores, leaves alone, saves and evaluates is what a run on
 * TensorFlow.js' `cpu` does, bit by bit, where variables and moving statistics are views of arrays.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type DeviceProvider, registerDeviceProvider, unregisterDeviceProvider } from '@lockstep/distribute';
import { FAST } from '../testing/provider.js';
import type { TensorFile } from '../utils/checkpoint/safetensors.js';
import type { EvaluationResult } from '../utils/logs/run-observer.js';
import { differences, readCheckpoint, run, writeData } from './testing/run.js';

const folder = mkdtempSync(join(tmpdir(), 'copies-'));
const data = join(folder, 'data');

interface Outcome {
  readonly checkpoint: TensorFile;
  readonly evaluation: EvaluationResult | null | undefined;
}

/** Two replicas train, go on from their checkpoint, and then train the dense layer alone from it. */
async function outcomes(name: string): Promise<Outcome[]> {
  const train = async (model: string, steps: number, ...more: string[]): Promise<Outcome> => {
    const modelDir = join(folder, `${name} ${model}`);
    const mirrored = ['--num_cpus=2', '--distribution_strategy=mirrored', '--batch_size=4', '--train_epochs=1'];
    const flags = [`--data_dir=${data}`, `--model_dir=${modelDir}`, `--max_train_steps=${steps}`, ...mirrored, ...more];
    const { status, text, result } = await run(flags);
    assert.equal(status, 0, text);
    return { checkpoint: readCheckpoint(modelDir, steps), evaluation: result?.evaluation };
  };
  const begun = await train('whole', 1);
  const resumed = await train('whole', 2);
  const from = join(folder, `${name} whole`);
  const tuned = await train('tuned', 1, '--fine_tune', `--pretrained_model_checkpoint_path=${from}`);
  return [begun, resumed, tuned];
}

describe('a run on a device whose tensors are copies', () => {
  let expected: Outcome[] = [];
  before(async () => {
    writeData(data);
    // Without it `cpu` computes.
    unregisterDeviceProvider(FAST);
    expected = await outcomes('cpu');
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const name of ['copying', 'distant']) {
    it(`'${name}': checkpoints and evaluations of cpu, of a start, a resumption and fine tuning`, async () => {
      // Devices for tests, which the package does not export.
      const url = new URL(`./devices/testing/${name}-device.js`, import.meta.resolve('@lockstep/distribute'));
      const { deviceProvider } = (await import(url.href)) as { deviceProvider: DeviceProvider };
      registerDeviceProvider(deviceProvider);
      try {
        const found = await outcomes(name);
        for (const [i, { checkpoint, evaluation }] of expected.entries()) {
          assert.deepEqual(differences((found[i] as Outcome).checkpoint, checkpoint), [], `run ${i}`);
          assert.deepEqual(found[i]?.evaluation, evaluation);
          assert.ok(Number.isFinite(evaluation?.loss));
        }
      } finally {
        unregisterDeviceProvider(name);
      }
    });
  }
});
