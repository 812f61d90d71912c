/** The run loop as a function that a program of one's own calls, as upstream's `resnet_main`: what it takes, and what it gives back. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
import { main } from './cifar10-main.js';
import { runMain, SMALL } from './testing/run.js';

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

it('fine tuning reaches in one epoch of few pictures what training from scratch does not', { skip }, async () => {
  const dataDir = prepareDigits(join(folder, 'all'));
  const few = join(folder, 'few');
  mkdirSync(few);
  for (const file of readdirSync(join(dataDir, 'cifar-10-batches-bin')).filter((name) => name.endsWith('.bin'))) {
    const records = readFileSync(join(dataDir, 'cifar-10-batches-bin', file));
    // 60 of each file to train on; everything to test.
    writeFileSync(join(few, file), file.startsWith('test') ? records : records.subarray(0, 60 * 3073));
  }
  const train = async (name: string, data: string, ...more: string[]) => {
    const modelDir = join(folder, name);
    const { status, text, result } = await runMain(main, [
      ...[`--data_dir=${data}`, `--model_dir=${modelDir}`, '--resnet_size=8', '--batch_size=20', '--train_epochs=1'],
      ...['--batch_norm_decay=0.9', '--norandom_flip', '--seed=5', ...SMALL, '--progress=none', ...more],
    ]);
    assert.equal(status, 0, text);
    return result?.evaluation?.accuracy as number;
  };
  const pretrained = await train('pretrained', dataDir);
  assert.ok(pretrained > 0.8, `${pretrained}`);
  const scratch = await train('scratch', few);
  const from = `--pretrained_model_checkpoint_path=${join(folder, 'pretrained')}`;
  // Its dense layer begins anew; with --fine_tune nothing else is trained.
  const tuned = await train('tuned', few, from, '--fine_tune');
  const warm = await train('warm', few, from);
  assert.ok(tuned > scratch + 0.2 && warm > scratch + 0.2, `scratch ${scratch}, tuned ${tuned}, warm ${warm}`);
});
