/** The run loop as a function that a program of one's own calls, as upstream's `resnet_main`: what it takes, and what it gives back. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, it } from 'node:test';
import { type DeviceProvider, registerDeviceProvider } from '@lockstep/distribute';
import { prepareDigits } from '../data/digits.js';
import {
  CIFAR10_RECIPE,
  cifar10Plan,
  defineCifarFlags,
  FlagValues,
  openCifar10,
  parseFlags,
  resnetMain,
  type TrainHook,
} from '../index.js';

const provider = process.env.LOCKSTEP_TEST_PROVIDER;
const skip = provider ? false : 'LOCKSTEP_TEST_PROVIDER names no device provider';
if (provider) registerDeviceProvider(((await import(provider)) as { deviceProvider: DeviceProvider }).deviceProvider);

const folder = mkdtempSync(join(tmpdir(), 'lockstep-resnet-main-'));
after(() => rmSync(folder, { recursive: true, force: true }));

it('takes flags, a plan, a recipe and data, and gives evaluation results and hooks', { skip }, async () => {
  const dataDir = prepareDigits(join(folder, 'digits'));
  const flags = defineCifarFlags(new FlagValues({ program: 'my-program', summary: 'Trains on digits.' }));
  const modelDir = join(folder, 'model');
  parseFlags(
    [
      ...[`--data_dir=${dataDir}`, `--model_dir=${modelDir}`, '--batch_size=32', '--max_train_steps=3', '--seed=3'],
      ...['--train_epochs=1', '--hooks=ExamplesPerSecondHook,LoggingTensorHook', '--progress=none'],
    ],
    flags,
  );
  const { FLAGS } = flags;
  const { evaluation, trainHooks, globalStep, checkpoint } = await resnetMain({
    flags,
    plan: cifar10Plan(8, 2),
    recipe: CIFAR10_RECIPE,
    datasetName: 'digits',
    decayExcept: null,
    open: (isTraining) => openCifar10(FLAGS.data_dir, isTraining),
  });
  assert.equal(globalStep, 3);
  assert.ok(existsSync(checkpoint as string));
  const { accuracy, accuracyTop5, loss, globalStep: step } = evaluation as NonNullable<typeof evaluation>;
  assert.ok(accuracy >= 0 && accuracy <= accuracyTop5 && accuracyTop5 <= 1 && Number.isFinite(loss));
  assert.equal(step, 3);
  assert.deepEqual(
    trainHooks.map((hook: TrainHook) => hook.name),
    ['ExamplesPerSecondHook', 'LoggingTensorHook'],
  );
});
