/**
 * Checkpoints appear whole or not at all; damaged ones are named and passed over; what cannot be written leaves everything
 * as it was. The disk that is full and the folder without permission are real ones.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CheckpointError, CheckpointManager, type CheckpointManagerOptions } from './checkpoint-manager.js';
import { encodeTensorFile, type TensorFile } from './safetensors.js';

let folder = '';
let warnings: string[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'checkpoints-'));
  warnings = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const manager = (directory = folder, options: CheckpointManagerOptions = {}) =>
  new CheckpointManager(directory, { warn: (line) => warnings.push(line), ...options });
const content = (step: number, length = 16): TensorFile => ({
  tensors: { w: { shape: [length], values: new Float32Array(length).fill(step) } },
  metadata: { global_step: String(step) },
});

describe('CheckpointManager', () => {
  it('gives back the newest, by its step and not by its name', () => {
    const checkpoints = manager();
    assert.equal(checkpoints.latest(), null);
    for (const step of [9, 100, 20]) assert.equal(checkpoints.save(step, content(step)), checkpoints.path(step));
    const latest = manager().latest()!;
    assert.equal(latest.step, 100);
    assert.equal(latest.path, join(folder, 'ckpt-100.safetensors'));
    assert.equal(latest.metadata.global_step, '100');
    assert.deepEqual(latest.tensors.w!.values, new Float32Array(16).fill(100));
    assert.deepEqual(warnings, []);
  });

  it('keeps the last five, or as many as told, and deletes none before the new one is there', () => {
    const checkpoints = manager();
    for (let step = 1; step <= 8; step++) checkpoints.save(step, content(step));
    assert.deepEqual(checkpoints.steps(), [4, 5, 6, 7, 8]);
    const two = manager(folder, { maxToKeep: 2 });
    assert.deepEqual(two.steps(), [4, 5, 6, 7, 8]);
    two.save(9, content(9));
    assert.deepEqual(two.steps(), [8, 9]);
    assert.throws(() => manager(folder, { maxToKeep: 0 }), /keep_checkpoint_max must be a positive integer, got 0/);
  });

  it('makes the folder, and leaves no temporary file, not even one of a process that was killed', () => {
    const deep = join(folder, 'a', 'b');
    mkdirSync(deep, { recursive: true });
    writeFileSync(join(deep, 'ckpt-3.safetensors.4711.tmp'), 'half');
    assert.equal(manager(deep).latest(), null);
    manager(deep).save(4, content(4));
    assert.deepEqual(readdirSync(deep), ['ckpt-4.safetensors']);
  });

  it('names a damaged checkpoint, passes it over and takes the one before it', () => {
    const damage: [string, (path: string) => void, RegExp][] = [
      ['cut off', (path) => truncateSync(path, 100), /header has \d+ bytes, but has 100 in all/],
      ['half written', (path) => truncateSync(path, readFileSync(path).length - 20), /is cut off: tensor 'w'/],
      ['empty', (path) => truncateSync(path, 0), /is 0 bytes long/],
      [
        'one bit flipped',
        (path) => {
          const bytes = readFileSync(path);
          bytes[bytes.length - 3]! ^= 4;
          writeFileSync(path, bytes);
        },
        /is damaged: its SHA-256 is [0-9a-f]{12}…, not [0-9a-f]{12}…/,
      ],
      ['without a checksum', (path) => writeFileSync(path, encodeTensorFile(content(2))), /has no checksum/],
      ['something else', (path) => writeFileSync(path, 'Lorem ipsum dolor sit amet'), /header has|not JSON/],
    ];
    for (const [what, spoil, reason] of damage) {
      const directory = join(folder, what);
      const checkpoints = manager(directory);
      checkpoints.save(1, content(1));
      checkpoints.save(2, content(2));
      spoil(checkpoints.path(2));
      warnings = [];
      assert.equal(checkpoints.latest()?.step, 1, what);
      assert.equal(warnings.length, 1, what);
      assert.match(warnings[0]!, reason);
      assert.ok(warnings[0]!.startsWith(`Checkpoint ${checkpoints.path(2)} `), what);
      assert.ok(warnings[0]!.endsWith('it is passed over for the one before it.'), what);
      spoil(checkpoints.path(1));
      assert.equal(checkpoints.latest(), null, what);
    }
  });

  it('a folder whose path is a file is an error that says so', () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    for (const directory of [file, join(file, 'model')]) {
      assert.throws(
        () => manager(directory).save(7, content(7)),
        (error: Error) =>
          error instanceof CheckpointError &&
          error.message.startsWith(
            `Checkpoint ${join(directory, 'ckpt-7.safetensors')} could not be written: the folder's path is a file (`,
          ) &&
          error.message.endsWith('help: make room or choose another --model_dir; no checkpoint was saved before.'),
      );
    }
  });

  it('without permission: an error that says so; the checkpoints before are still there', () => {
    manager().save(1, content(1));
    chmodSync(folder, 0o555);
    try {
      // The administrator may write everywhere, so a child process is somebody else.
      const isRoot = process.getuid?.() === 0;
      const run = spawnSync(
        process.execPath,
        [
          '--input-type=module',
          '--eval',
          `import { CheckpointManager } from ${JSON.stringify(new URL('./checkpoint-manager.js', import.meta.url).href)};
           ${isRoot ? 'process.setgroups([]); process.setgid(65534); process.setuid(65534);' : ''}
           const values = new Float32Array(16);
           const checkpoints = new CheckpointManager(${JSON.stringify(folder)});
           try {
             checkpoints.save(2, { tensors: { w: { shape: [16], values } }, metadata: {} });
           } catch (error) {
             console.log(error.name + ': ' + error.message + ' ' + checkpoints.latest().step);
           }`,
        ],
        { encoding: 'utf8' },
      );
      assert.match(
        run.stdout,
        /^CheckpointError: Checkpoint .*ckpt-2\.safetensors could not be written: no permission to write there \(EACCES\)\.\nhelp: .*; the checkpoint of step 1 is still there\. 1\n$/,
        run.stderr,
      );
    } finally {
      chmodSync(folder, 0o755);
    }
    assert.deepEqual(readdirSync(folder), ['ckpt-1.safetensors']);
  });

  it('on a full disk: an error that says so; nothing half-written stays, the checkpoints before do', (context) => {
    const disk = join(folder, 'disk');
    mkdirSync(disk);
    const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'lockstep-test', disk], { encoding: 'utf8' });
    if (mount.status !== 0) {
      context.skip(`mounting a small disk is not permitted here: ${mount.stderr?.trim() || mount.error?.message}`);
      return;
    }
    try {
      const checkpoints = manager(disk);
      checkpoints.save(1, content(1, 20_000));
      checkpoints.save(2, content(2, 20_000));
      assert.throws(
        () => checkpoints.save(3, content(3, 40_000)),
        (error: Error) =>
          error instanceof CheckpointError &&
          error.message ===
            `Checkpoint ${checkpoints.path(3)} could not be written: the disk is full (ENOSPC).\n` +
              'help: make room or choose another --model_dir; the checkpoint of step 2 is still there.',
      );
      assert.deepEqual(readdirSync(disk).sort(), ['ckpt-1.safetensors', 'ckpt-2.safetensors']);
      assert.equal(checkpoints.latest()?.step, 2);
    } finally {
      assert.equal(spawnSync('umount', [disk]).status, 0);
    }
  });

  it('killed while it writes, it leaves the checkpoint before', () => {
    // The process ends itself in the middle of the write, which is where the temporary name matters.
    const script = `import fs from 'node:fs';
      import { syncBuiltinESMExports } from 'node:module';
      const { writeSync } = fs;
      fs.writeSync = (descriptor, bytes, at) => {
        writeSync(descriptor, bytes, at, 50);
        process.kill(process.pid, 'SIGKILL');
      };
      syncBuiltinESMExports();
      const { CheckpointManager } = await import(${JSON.stringify(new URL('./checkpoint-manager.js', import.meta.url).href)});
      new CheckpointManager(${JSON.stringify(folder)}).save(2, { tensors: { w: { shape: [64], values: new Float32Array(64) } }, metadata: {} });`;
    manager().save(1, content(1));
    const run = spawnSync(process.execPath, ['--input-type=module', '--eval', script]);
    assert.equal(run.signal, 'SIGKILL');
    assert.equal(readdirSync(folder).filter((name) => name.endsWith('.tmp')).length, 1);
    assert.equal(manager().latest()?.step, 1);
    assert.deepEqual(warnings, []);
    manager().save(3, content(3));
    assert.deepEqual(readdirSync(folder).sort(), ['ckpt-1.safetensors', 'ckpt-3.safetensors']);
    assert.ok(existsSync(fileURLToPath(new URL('./checkpoint-manager.js', import.meta.url))));
  });
});
