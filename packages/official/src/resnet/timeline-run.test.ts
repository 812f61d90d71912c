/** Timelines of real runs: --profile_steps and ProfilerHook, with two replicas; spans nest and add up to the step. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { type DeviceProvider, registerDeviceProvider } from '@lockstep/distribute';
import type { TraceEvent } from '../utils/logs/timeline.js';
import { main } from './cifar10-main.js';
import { runMain, SMALL } from './testing/run.js';

const provider = process.env.LOCKSTEP_TEST_PROVIDER;
// TensorFlow.js' own backend takes half a minute for a step of the smallest ResNet.
const skip = provider ? false : 'LOCKSTEP_TEST_PROVIDER names no device provider';
if (provider) registerDeviceProvider(((await import(provider)) as { deviceProvider: DeviceProvider }).deviceProvider);

const folder = mkdtempSync(join(tmpdir(), 'timeline-run-'));
after(() => rmSync(folder, { recursive: true, force: true }));

async function run(name: string, ...flags: string[]) {
  const modelDir = join(folder, name);
  const result = await runMain(main, [
    ...['--use_synthetic_data', '--resnet_size=8', '--batch_size=8', '--seed=1', '--train_epochs=1'],
    ...['--num_cpus=2', '--distribution_strategy=mirrored', '--all_reduce_alg=hierarchical_copy', '--num_packs=2'],
    ...[...SMALL, `--model_dir=${modelDir}`, ...flags],
  ]);
  assert.equal(result.status, 0, result.text);
  const files = readdirSync(modelDir).filter((file) => file.startsWith('timeline'));
  const read = (file: string) =>
    (JSON.parse(readFileSync(join(modelDir, file), 'utf8')) as { traceEvents: TraceEvent[] }).traceEvents;
  return { files, read, modelDir };
}

type Slice = Required<Pick<TraceEvent, 'name' | 'cat' | 'ts' | 'dur'>> & Pick<TraceEvent, 'args'>;

describe('--profile_steps', { skip }, () => {
  it('writes the steps from first to last, on every replica, nested, to the step’s own length', async () => {
    const { files, read } = await run('asked', '--max_train_steps=6', '--profile_steps=4,5');
    assert.deepEqual(files, ['timeline-4-5.json']);
    const events = read(files[0] as string);
    for (const replica of [0, 1]) {
      const slices = events.filter(({ ph, tid }) => ph === 'X' && tid === replica) as Slice[];
      const steps = slices.filter(({ name }) => name.startsWith('step '));
      assert.deepEqual(
        steps.map(({ name }) => name),
        ['step 4', 'step 5'],
      );
      // Each with its own number, also inside.
      assert.deepEqual(
        slices.flatMap(({ args }) => (args?.step === undefined ? [] : [args.step])).toSorted(),
        [4, 4, 5, 5],
      );
      for (const step of steps) {
        const inside = slices.filter((one) => one !== step && one.ts >= step.ts && one.ts <= step.ts + step.dur);
        const parts = inside.filter(({ cat }) => cat === 'step');
        assert.deepEqual(
          parts.map(({ name }) => name),
          ['input', 'forward', 'backward', 'reduce', 'update'],
        );
        // What is left is this test's own bookkeeping and the machine's: a fiftieth of a step of this size, and half a millisecond.
        const sum = parts.reduce((total, { dur }) => total + dur, 0);
        assert.ok(sum <= step.dur + 1 && sum > 0.98 * step.dur - 500, `${sum} of ${step.dur} µs`);
        const layers = inside.filter(({ cat }) => cat === 'layer').map(({ name }) => name);
        // ResNet-8: a first convolution, three blocks of two and two... each with its shortcut, a dense layer.
        assert.deepEqual(layers.filter((name) => name === 'shortcut').length, 3);
        assert.equal(layers.filter((name) => name.startsWith('conv2d')).length, 10);
        assert.equal(layers.at(-1), 'dense');
        const gradients = inside.filter(({ cat }) => cat === 'gradient').map(({ name }) => name);
        assert.match(gradients[0] as string, /dense/);
        assert.match(gradients.at(-1) as string, /conv2d\/kernel|batch_normalization\//);
      }
    }
    const packs = new Set(events.flatMap(({ cat, args }) => (cat === 'pack' ? [args?.pack] : [])));
    assert.deepEqual([...packs].toSorted(), [0, 1]);
    // An arrow for each pack of each replica and step, with both ends.
    assert.equal(events.filter(({ ph }) => ph === 's').length, 8);
    assert.equal(events.filter(({ ph }) => ph === 'f').length, 8);
  });

  it('ends with the run, and changes no weight', async () => {
    const traced = await run('cut', '--max_train_steps=3', '--profile_steps=2,100');
    assert.deepEqual(traced.files, ['timeline-2-3.json']);
    const plain = await run('plain', '--max_train_steps=3');
    assert.deepEqual(plain.files, []);
    const weights = ({ modelDir }: { modelDir: string }) => readFileSync(join(modelDir, 'ckpt-3.safetensors'));
    assert.ok(weights(traced).equals(weights(plain)));
  });

  it('of more steps than a timeline holds is refused', async () => {
    const { status, text } = await runMain(main, ['--profile_steps=1,1001', '--use_synthetic_data']);
    assert.equal(status, 2, text);
    assert.match(text, /profile_steps should be of 1000 steps at most/);
  });

  it('that is no pair is refused in upstream’s words', async () => {
    for (const value of ['3', '0,2', '5,4', 'a,b', '1,2,3', '']) {
      const { status, text } = await runMain(main, [`--profile_steps=${value}`, '--use_synthetic_data']);
      assert.equal(status, 2, text);
      assert.match(
        text,
        /profile_steps must be a comma separated pair of positive integers, specifying the first and last steps to be profiled\./,
      );
    }
  });
});

describe('ProfilerHook', { skip }, () => {
  it('has the same of one step in a thousand', async () => {
    const { files, read } = await run('hook', '--max_train_steps=1001', '--batch_size=2', '--hooks=ProfilerHook');
    assert.deepEqual(files, ['timeline-1000.json']);
    const names = read(files[0] as string).map(({ name }) => name);
    assert.ok(names.includes('step 1000') && names.includes('shortcut') && names.includes('gradient to pack'));
  });
});
