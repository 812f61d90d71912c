/**
 * One writer for each model folder: a second one is refused and told who has it; a lock of a process that is gone, in every
 * way in which one can be gone, blocks nobody; of many that start at once exactly one gets it.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { LOCK_NAME, ModelDirInUseError, ModelDirLock } from './model-dir-lock.js';

let folder = '';
let lines: string[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lock-'));
  lines = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const file = () => join(folder, LOCK_NAME);
const acquire = (options: { patienceMs?: number; watchMs?: number } = {}) =>
  ModelDirLock.acquire(folder, { log: (line) => lines.push(line), ...options });
const isInUse = (error: Error) =>
  error instanceof ModelDirInUseError && error.message.includes('is in use by another run');

/** A process that takes the lock, says so, and does something then. */
async function child(then: string): Promise<ChildProcess> {
  const script = `import { ModelDirLock } from ${JSON.stringify(new URL('./model-dir-lock.js', import.meta.url).href)};
    const lock = await ModelDirLock.acquire(${JSON.stringify(folder)});
    console.log('has it');
    ${then}`;
  const process_ = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(process_.stdout!, 'data');
  return process_;
}

async function end(process_: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  const exit = once(process_, 'exit');
  process_.kill(signal);
  await exit;
}

describe('ModelDirLock', () => {
  it('a second one is refused and told who has it; a released one can be taken', async () => {
    const lock = await acquire();
    assert.equal(JSON.parse(readFileSync(file(), 'utf8')).pid, process.pid);
    await assert.rejects(
      acquire(),
      (error: Error) => isInUse(error) && error.message.includes(`process ${process.pid} on host '${hostname()}'`),
    );
    lock.check();
    lock.release();
    lock.release();
    assert.deepEqual(readdirSync(folder), []);
    (await acquire()).release();
    assert.deepEqual(lines, []);
  });

  it('one that lives in another process holds it; after kill -9 nobody does', async () => {
    const holder = await child('setInterval(() => {}, 1000);');
    await assert.rejects(acquire(), isInUse);
    await end(holder, 'SIGKILL');
    assert.ok(existsSync(file()));
    (await acquire()).release();
    assert.match(lines[0]!, new RegExp(`was left behind by process ${holder.pid} on host .* and is taken over\\.`));
  });

  it('one that ends, also by process.exit or without a word, gives it back', async () => {
    for (const then of ['process.exit(3);', 'setTimeout(() => lock.release(), 10);', 'process.exitCode = 1;']) {
      const holder = await child(then);
      if (holder.exitCode === null) await once(holder, 'exit');
      assert.deepEqual(readdirSync(folder), [], then);
    }
  });

  it('waits for one that is about to end, if told to', async () => {
    const holder = await child('setTimeout(() => process.exit(), 800);');
    const lock = await acquire({ patienceMs: 20_000 });
    assert.equal(lines.length, 1);
    assert.match(lines[0]!, /is in use by process \d+ on host .*; waiting 20 s for it to end\./);
    lock.release();
    if (holder.exitCode === null) await once(holder, 'exit');
  });

  it('the same process id is not enough: a process that started at another time, or is a zombie, is gone', async () => {
    const lock = await acquire();
    const mine = JSON.parse(readFileSync(file(), 'utf8')) as Record<string, unknown>;
    lock.release();
    writeFileSync(file(), JSON.stringify({ ...mine, started: '1' }));
    (await acquire()).release();
    // Its parent, a shell that has become `sleep`, never asks how it ended.
    const parent = spawn('sh', ['-c', 'sleep 0 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] });
    try {
      const [text] = (await once(parent.stdout, 'data')) as [Buffer];
      const zombie = Number(String(text));
      const fields = () => readFileSync(`/proc/${zombie}/stat`, 'utf8').split(' ');
      while (fields()[2] !== 'Z') await new Promise((resolve) => setTimeout(resolve, 10));
      writeFileSync(file(), JSON.stringify({ ...mine, pid: zombie, started: fields()[21] }));
      (await acquire()).release();
    } finally {
      await end(parent, 'SIGKILL');
    }
  });

  it('one of another host, boot or namespace is watched: taken over if nobody touches it, refused if somebody does', async () => {
    const lock = await acquire();
    const mine = JSON.parse(readFileSync(file(), 'utf8')) as Record<string, unknown>;
    lock.release();
    for (const other of [{ host: 'elsewhere' }, { boot: 'before' }, { namespace: 'pid:[1]' }]) {
      writeFileSync(file(), JSON.stringify({ ...mine, ...other }));
      lines = [];
      (await acquire({ watchMs: 600 })).release();
      assert.match(lines[0]!, /cannot be looked up here; watching for 0\.6 s/);
      assert.match(lines[1]!, /was left behind/);
      writeFileSync(file(), JSON.stringify({ ...mine, ...other }));
      let beats = 0;
      const beat = setInterval(() => utimesSync(file(), new Date(), new Date(Date.now() + ++beats)), 50);
      await assert.rejects(acquire({ watchMs: 2000 }), isInUse);
      clearInterval(beat);
      // Nobody has touched it for so long that there is nothing to watch for.
      utimesSync(file(), new Date(), new Date(Date.now() - 3_600_000));
      lines = [];
      (await acquire({ watchMs: 600_000 })).release();
      assert.equal(lines.length, 1);
    }
  });

  it('what is no lock at its place blocks nobody for long', async () => {
    for (const make of [
      () => writeFileSync(file(), ''),
      () => writeFileSync(file(), '{"pid":'),
      () => writeFileSync(file(), '{"pid":-1,"host":"x"}'),
      () => symlinkSync('/nowhere', file()),
    ]) {
      make();
      (await acquire({ watchMs: 100 })).release();
      assert.deepEqual(readdirSync(folder), []);
    }
  });

  it('knows when it was taken over, and leaves the other’s lock alone', async () => {
    const lock = await acquire();
    const other = JSON.stringify({ pid: 1, host: 'elsewhere' });
    writeFileSync(file(), other);
    assert.throws(() => lock.check(), /is not this run's any more: process 1 on host 'elsewhere'/);
    lock.release();
    assert.equal(readFileSync(file(), 'utf8'), other);
  });

  it('of many that find a lock left behind exactly one gets it', { timeout: 120_000 }, async () => {
    const script = `import { ModelDirLock } from ${JSON.stringify(new URL('./model-dir-lock.js', import.meta.url).href)};
      await new Promise((resolve) => setTimeout(resolve, Number(process.argv[1]) - Date.now()));
      try {
        await ModelDirLock.acquire(${JSON.stringify(folder)});
        console.log('mine');
        setTimeout(() => process.exit(), 3000);
      } catch (error) {
        console.log(error.name);
      }`;
    for (let round = 0; round < 3; round++) {
      const gone = await child('setInterval(() => {}, 1000);');
      await end(gone, 'SIGKILL');
      const at = String(Date.now() + 1500);
      const outputs = await Promise.all(
        Array.from({ length: 6 }, async () => {
          const one = spawn(process.execPath, ['--input-type=module', '--eval', script, at], {
            stdio: ['ignore', 'pipe', 'inherit'],
          });
          let output = '';
          one.stdout.on('data', (text) => (output += text));
          await once(one, 'close');
          return output.trim();
        }),
      );
      assert.deepEqual(outputs.sort(), [...Array(5).fill('ModelDirInUseError'), 'mine'], `round ${round}`);
      rmSync(file(), { force: true });
    }
  });

  it('a folder without permission is the system’s error', async () => {
    rmSync(folder, { recursive: true });
    await assert.rejects(acquire(), { code: 'ENOENT' });
    mkdirSync(folder);
  });
});
