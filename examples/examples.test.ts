/** The examples run as a reader would run them, and keep their promise: at most five marked lines. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

for (const example of ['digits-fit', 'digits-loop']) {
  test(`${example}: trains on one and on two replicas`, { timeout: 120_000 }, async () => {
    for (const replicas of [1, 2]) {
      const script = fileURLToPath(new URL(`./${example}.js`, import.meta.url));
      const args = [script, `--replicas=${replicas}`, '--images=40', '--epochs=3'];
      const env = { ...process.env, LOCKSTEP_VERBOSE: '1' };
      const { stdout, stderr } = await run(process.execPath, args, { env, maxBuffer: 2 ** 26 });
      assert.match(stdout, new RegExp(`^${replicas} replicas on onednn, 400 images, ${32 * replicas} a step`));
      // Backend onednn traces model.fit, with a distributed optimizer too; TensorFlow.js runs a loop of one's own.
      if (example === 'digits-fit') {
        const recorded = [...`${stdout}\n${stderr}`.matchAll(/^lockstep,step,recorded, \d+ operations$/gm)];
        assert.equal(recorded.length, replicas, 'replicas that recorded their step');
      }
      const losses = [...stdout.matchAll(/^epoch \d: loss ([\d.]+)$/gm)].map((match) => Number(match[1]));
      assert.equal(losses.length, 3);
      assert.ok((losses[2] as number) < (losses[0] as number), `the loss falls: ${losses}`);
      // Ten classes: guessing would be right once in ten.
      const accuracy = Number(/accuracy on other images: ([\d.]+) %/.exec(stdout)?.[1]);
      assert.ok(accuracy > 20, `accuracy ${accuracy} %`);
    }
  });

  test(`${example}: five marked lines`, () => {
    const source = readFileSync(new URL(`../${example}.ts`, import.meta.url), 'utf8');
    const marks = [...source.matchAll(/\/\/ Lockstep: (\d) of 5/g)].map((match) => match[1]);
    assert.deepEqual(marks, ['1', '2', '3', '4', '5']);
  });
}

test('digits-callbacks: plateau, early stop and checkpoint are decided alike', { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-example-'));
  try {
    const script = fileURLToPath(new URL('./digits-callbacks.js', import.meta.url));
    const save = join(folder, 'best.json');
    const args = [script, '--replicas=2', '--images=20', '--epochs=100', `--save=${save}`];
    const { stdout, stderr } = await run(process.execPath, args, { maxBuffer: 2 ** 26 });
    assert.match(stdout, /^replicas decided alike: yes$/m, stderr);
    const epochs = [...stdout.matchAll(/^epoch \d+: loss ([\d.]+), next rate ([\d.e-]+)(, saved)?$/gm)];
    // Early stopping: three epochs without a better mean, before all are through.
    assert.ok(epochs.length > 3 && epochs.length < 100, `${epochs.length} epochs`);
    assert.deepEqual(
      epochs.slice(-3).map(([, , , saved]) => saved),
      [undefined, undefined, undefined],
    );
    // The plateau halves the rate in each epoch that is not better, and in no other.
    let rate = 0.5;
    for (const [, , next, saved] of epochs) {
      if (!saved) rate /= 2;
      assert.equal(Number(next), rate);
    }
    const weights = JSON.parse(readFileSync(save, 'utf8')) as number[][];
    assert.deepEqual(
      weights.map(({ length }) => length),
      [28 * 28 * 32, 32, 32, 32, 32 * 10, 10, 32, 32],
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
