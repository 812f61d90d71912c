/**
 * Every way in which a run is told to stop, on the compiled command: it saves first. What is no wish to stop, a full disk
 * under standard error, does not end it; what leaves no time, kill -9, leaves nothing behind that blocks the same command.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { BIN, lockstep, start } from '../testing/process.js';

const folder = mkdtempSync(join(tmpdir(), 'stopping-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const model = (name: string) => join(folder, name);
const LIMIT = { limitSeconds: 200 };
/** Made-up data, more steps than anybody waits for. */
const flags = (name: string, steps = 1_000_000) => [
  'cifar10',
  '--use_synthetic_data',
  '--resnet_size=8',
  '--batch_size=2',
  '--train_epochs=1',
  `--max_train_steps=${steps}`,
  '--log_steps=1',
  '--progress=plain',
  '--hooks=',
  '--seed=1',
  '--intra_op_parallelism_threads=1',
  `--model_dir=${model(name)}`,
];
const saved = (name: string) => readdirSync(model(name)).filter((file) => file.startsWith('ckpt-'));
const training = / step [2-9]\d*\//;

describe('told to stop', () => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGXCPU'] as const) {
    it(`${signal}: saves, and ends with 130`, async () => {
      const running = start(process.execPath, [BIN, ...flags(signal)], LIMIT);
      await running.until(training);
      process.kill(running.child.pid as number, signal);
      const { status, describe: shown } = await running.result;
      assert.equal(status, 130, shown());
      assert.equal(saved(signal).length, 1, shown());
      assert.ok(!existsSync(join(model(signal), '.lockstep-lock')));
    });
  }

  it('nobody reads standard error any more: saves, and ends with 130', async () => {
    const child = spawn(process.execPath, [BIN, ...flags('unread')], { stdio: ['ignore', 'ignore', 'pipe'] });
    let output = '';
    for await (const text of child.stderr!) {
      output += text;
      if (training.test(output)) break;
    }
    // Leaving the loop has closed our end.
    if (child.exitCode === null) await once(child, 'exit');
    assert.equal(child.exitCode, 130, output);
    assert.equal(saved('unread').length, 1);
  });

  it('a full disk under standard error costs the lines, not the run', {
    skip: !existsSync('/dev/full') && 'there is no /dev/full',
  }, async () => {
    const full = openSync('/dev/full', 'w');
    const child = spawn(process.execPath, [BIN, ...flags('full', 5)], { stdio: ['ignore', 'ignore', full] });
    closeSync(full);
    await once(child, 'exit');
    assert.equal(child.exitCode, 0);
    assert.deepEqual(saved('full'), ['ckpt-5.safetensors']);
  });

  it('a second signal ends the run at once, and saves nothing', async () => {
    // One step of TensorFlow.js' own kernels that takes longer than anybody waits.
    const long = ['--backend=cpu', '--resnet_size=20', '--batch_size=512'];
    const running = start(process.execPath, [BIN, ...flags('twice'), ...long], LIMIT);
    await running.until(/Starting cycle/);
    const { pid } = running.child;
    process.kill(pid as number, 'SIGINT');
    await running.until(/Stopping after this step/);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    process.kill(pid as number, 'SIGINT');
    const { status, describe: shown } = await running.result;
    assert.equal(status, 130, shown());
    assert.deepEqual(saved('twice'), []);
    assert.ok(!existsSync(join(model('twice'), '.lockstep-lock')));
  });
});

describe('one run in a folder', () => {
  it('a second one is refused; after kill -9 of the first the same command goes on', async () => {
    const running = start(process.execPath, [BIN, ...flags('killed'), '--save_checkpoints_steps=2'], LIMIT);
    await running.until(/Saved checkpoint/);
    const second = await lockstep(flags('killed'), LIMIT);
    assert.equal(second.status, 1, second.describe());
    assert.match(
      second.output,
      new RegExp(`--model_dir=.* is in use by another run: process ${running.child.pid} on host`),
    );
    running.child.kill('SIGKILL');
    await running.result;
    assert.ok(existsSync(join(model('killed'), '.lockstep-lock')));
    const whole = saved('killed').filter((name) => name.endsWith('.safetensors'));
    const step = Math.max(...whole.map((name) => Number(/\d+/.exec(name)?.[0])));
    const again = await lockstep(flags('killed', step + 2), LIMIT);
    assert.equal(again.status, 0, again.describe());
    assert.match(again.output, /was left behind by process \d+ on host .* and is taken over\./);
    assert.match(again.output, new RegExp(`^Restored step ${step} from `, 'm'));
  });
});
