/**
 * Checkpoints appear whole or not at all; damaged ones are named and passed over; what cannot be written leaves everything
 * as it was. The disk that is full and the folder without permission are real ones.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CheckpointError, CheckpointManager, type CheckpointManagerOptions } from './checkpoint-manager.js';
import { encodeTensorFile, type TensorFile, TensorFileError } from './safetensors.js';

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
      assert.ok(warnings.at(-1)!.endsWith('; it is passed over.'), what);
    }
  });

  it('only whole checkpoints count when old ones are deleted, and the new one never is', () => {
    for (const maxToKeep of [1, 2, 5]) {
      const directory = join(folder, String(maxToKeep));
      const checkpoints = manager(directory, { maxToKeep });
      // Higher steps, and nothing whole: cut off, empty, another content, a folder, a link to nothing.
      checkpoints.save(7, content(7));
      const whole = readFileSync(checkpoints.path(7));
      writeFileSync(checkpoints.path(995), whole.subarray(0, whole.length - 1));
      writeFileSync(checkpoints.path(996), '');
      writeFileSync(checkpoints.path(997), encodeTensorFile(content(997)));
      mkdirSync(checkpoints.path(998));
      symlinkSync('/nowhere', checkpoints.path(999));
      const odd = [995, 996, 997, 998, 999];
      for (const step of [8, 9, 10, 11, 12, 13]) {
        assert.ok(existsSync(checkpoints.save(step, content(step))));
        assert.equal(manager(directory).latest()?.step, step);
      }
      const kept = [8, 9, 10, 11, 12, 13].slice(-maxToKeep);
      assert.deepEqual(checkpoints.steps(), [...kept, ...odd.filter((step) => step !== 999), 999]);
      // Another process knows nothing of what this one wrote, and finds the same.
      const again = manager(directory, { maxToKeep });
      again.save(14, content(14));
      assert.deepEqual(again.steps(), [...kept.slice(1), 14, ...odd]);
    }
  });

  it('odd files beside a good one do not hide it', () => {
    for (const [what, make] of [
      ['folder', (path: string) => mkdirSync(path)],
      ['link to nothing', (path: string) => symlinkSync('/nowhere', path)],
      ['link to itself', (path: string) => symlinkSync(path, path)],
      ['pipe', (path: string) => assert.equal(spawnSync('mkfifo', [path]).status, 0)],
      ['device', (path: string) => symlinkSync('/dev/zero', path)],
      [
        '3 GB of nothing',
        (path: string) => {
          writeFileSync(path, '');
          truncateSync(path, 3e9);
        },
      ],
    ] as const) {
      const checkpoints = manager(join(folder, what));
      checkpoints.save(1, content(1));
      make(checkpoints.path(5));
      warnings = [];
      assert.equal(checkpoints.latest()?.step, 1, what);
      assert.equal(warnings.length, 1, what);
      assert.ok(warnings[0]!.startsWith(`Checkpoint ${checkpoints.path(5)} `), what);
      // A run that comes to this step writes its own there. A folder is not lost by that.
      checkpoints.save(5, content(5));
      assert.equal(manager(checkpoints.directory).latest()?.step, 5, what);
      assert.equal(existsSync(`${checkpoints.path(5)}.set-aside`), what === 'folder');
    }
    const checkpoints = manager(join(folder, 'numbers'));
    checkpoints.save(1, content(1));
    const whole = readFileSync(checkpoints.path(1));
    const silly = ['007', '99999999999999999999999', '-3', '1e3', '0x10', ''].map((n) => `ckpt-${n}.safetensors`);
    for (const name of silly) writeFileSync(join(checkpoints.directory, name), whole);
    assert.equal(checkpoints.latest()?.step, 1);
    rmSync(checkpoints.path(1));
    warnings = [];
    assert.equal(checkpoints.latest(), null);
    assert.equal(warnings.length, silly.length);
  });

  it('what must be true of a checkpoint beside being whole is asked when it is read and when old ones are deleted', () => {
    const validate = ({ metadata }: TensorFile, step: number) => {
      if (metadata.global_step !== String(step)) throw new TensorFileError(`is of step ${metadata.global_step}`);
    };
    const checkpoints = manager(folder, { validate, maxToKeep: 2 });
    checkpoints.save(1, content(1));
    copyFileSync(checkpoints.path(1), checkpoints.path(500));
    assert.equal(checkpoints.latest()?.step, 1);
    assert.match(warnings[0]!, /ckpt-500\.safetensors is of step 1; it is passed over for the one before it/);
    for (const step of [2, 3]) checkpoints.save(step, content(step));
    assert.deepEqual(checkpoints.steps(), [2, 3, 500]);
  });

  it('checkpoints that another process rotates away while they are looked at are no damaged ones', () => {
    const writer = manager(folder, { maxToKeep: 1 });
    writer.save(1, content(1));
    let isFirst = true;
    const reader = manager(folder, {
      validate: () => {
        if (!isFirst) return;
        isFirst = false;
        writer.save(2, content(2));
        throw new TensorFileError('is cut off: it became shorter while it was read');
      },
    });
    assert.equal(reader.latest()?.step, 2);
    assert.deepEqual(warnings, []);
  });

  it('a file in the making of a process that lives is left alone, and a link under its name not followed', () => {
    const checkpoints = manager();
    const theirs = `${checkpoints.path(7)}.${process.ppid}.tmp`;
    writeFileSync(theirs, 'half');
    writeFileSync(join(folder, 'victim'), 'precious');
    symlinkSync(join(folder, 'victim'), `${checkpoints.path(8)}.${process.pid}.tmp`);
    checkpoints.save(8, content(8));
    assert.equal(readFileSync(theirs, 'utf8'), 'half');
    assert.equal(readFileSync(join(folder, 'victim'), 'utf8'), 'precious');
    assert.equal(lstatSync(checkpoints.path(8)).isSymbolicLink(), false);
  });

  it('an old one that cannot be deleted is a warning', { skip: process.getuid?.() !== 0 && 'only root can' }, () => {
    // In a folder with the sticky bit nobody deletes what is not theirs.
    for (const step of [1, 2]) manager().save(step, content(step));
    chmodSync(folder, 0o1777);
    const run = spawnSync(
      process.execPath,
      [
        '--input-type=module',
        '--eval',
        `import { CheckpointManager } from ${JSON.stringify(new URL('./checkpoint-manager.js', import.meta.url).href)};
         process.setgroups([]); process.setgid(65534); process.setuid(65534);
         const checkpoints = new CheckpointManager(${JSON.stringify(folder)}, { maxToKeep: 1, warn: (line) => console.log(line) });
         checkpoints.save(3, { tensors: { w: { shape: [2], values: new Float32Array(2) } }, metadata: {} });`,
      ],
      { encoding: 'utf8' },
    );
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stdout, /ckpt-1\.safetensors could not be deleted: no permission \(EPERM\)\./);
    assert.deepEqual(manager().steps(), [1, 2, 3]);
  });

  it('a folder whose path is a file is an error that says so', () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    for (const [directory, why] of [
      [file, 'a file is in the way (EEXIST)'],
      [join(file, 'model'), 'a part of the path is not a folder (ENOTDIR)'],
    ] as const) {
      assert.throws(
        () => manager(directory).save(7, content(7)),
        (error: Error) =>
          error instanceof CheckpointError &&
          error.message.startsWith(
            `Checkpoint ${join(directory, 'ckpt-7.safetensors')} could not be written: ${why}.`,
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
        /^CheckpointError: Checkpoint .*ckpt-2\.safetensors could not be written: no permission \(EACCES\)\.\nhelp: .*; the checkpoint of step 1 is still there\. 1\n$/,
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
