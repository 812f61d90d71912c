/** What users' programs do in replicas: print, end in odd ways, hand over tensors, forget the guard, come from a compiler or bundler. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { buildSync } from 'esbuild';
import { threadFlags } from '../host/thread-file.js';
import { MirroredStrategy } from '../strategy/mirrored-strategy.js';
import type { RunOptions } from './run-replicas.js';

const programs = new URL('./testing/programs.js', import.meta.url);
const strategy = new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'], log: () => {} });
const TIMEOUT = { timeout: 60_000 };
const run = (what: string, how = '', options: RunOptions = {}) => strategy.run(programs, { what, how }, options);

/** Runs a scene in a process of its own, whose output is only that of its replicas, its reports, and how it ended. */
function printed(what: string, how = '', options: RunOptions = {}): { stdout: string; stderr: string } {
  const script = `
    import { MirroredStrategy } from '@lockstep/distribute';
    const strategy = new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'], log() {} });
    const onReport = (replica, step) => console.log('report ' + step + ' of ' + replica);
    const options = { ...${JSON.stringify(options)}, onReport };
    const end = await strategy.run(${JSON.stringify(programs.href)}, ${JSON.stringify({ what, how })}, options).catch((error) => error);
    console.log('ended: ' + (end.kind ?? 'well'));`;
  const cwd = fileURLToPath(new URL('.', import.meta.url));
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    timeout: 60_000,
    cwd,
    maxBuffer: 2 ** 28,
  });
  return { stdout, stderr };
}

async function failure(action: Promise<unknown>): Promise<Error> {
  try {
    await action;
  } catch (error) {
    return error as Error;
  }
  assert.fail('an error was expected');
}

describe('what a replica prints', () => {
  for (const [how, kind] of [
    ['throw', 'error'],
    ['exit', 'exit'],
    ['hang', 'stalled'],
    ['memory', 'out-of-memory'],
    ['return', 'well'],
  ] as const) {
    test(`arrives when it ends by: ${how}`, TIMEOUT, () => {
      const options = { timeoutSeconds: 3, resourceLimits: { maxOldGenerationSizeMb: 60 } };
      const { stdout, stderr } = printed('print', how, options);
      assert.equal(stdout, `first line\nthird line\nfourth line\nended: ${kind}\n`, stderr);
      assert.match(stderr, /^second line$/m);
    });
  }

  test('arrives while a synchronous loop goes on, in order with its reports', TIMEOUT, () => {
    const { stdout, stderr } = printed('loop');
    for (const replica of [0, 1]) {
      const own = stdout.split('\n').filter((line) => line.endsWith(`of ${replica}`));
      const expected = [0, 1, 2, 3, 4].flatMap((step) => [
        `step ${step} of ${replica}`,
        `report ${step} of ${replica}`,
      ]);
      assert.deepEqual(own, expected, stderr);
    }
  });

  test('arrives whole, however much it is', TIMEOUT, () => {
    const { stdout } = printed('lines', '100000');
    for (const replica of [0, 1]) {
      const lines = stdout.split('\n').filter((line) => line.startsWith(`replica ${replica} `));
      assert.equal(lines.length, 100_000);
      assert.equal(lines.at(-1), `replica ${replica} line 100000`);
    }
  });
});

describe('what a replica is given and gives', () => {
  test('no tensors: the error names the place', TIMEOUT, async () => {
    const inArguments = await failure(strategy.run(programs, { data: { images: [tf.scalar(1)] } }));
    assert.match(
      inArguments.message,
      /There is a tensor in the arguments of strategy\.run\(\) at data\.images\[0\]: .*\nhelp: /,
    );
    const returned = await failure(run('tensor'));
    assert.match(
      returned.message,
      /Replica \d \(cpu:\d\) failed: TypeError: There is a tensor in what the replica function returned at a\[0\]/,
    );
    const reported = await failure(run('report'));
    assert.match(reported.message, /There is a variable in what was given to context\.report\(\) at loss/);
  });

  test('a promise that never settles is called that', TIMEOUT, async () => {
    const error = await failure(run('never'));
    assert.match(error.message, /Replica \d \(cpu:\d\) waits for a promise that never settles/);
  });

  test('causes and aggregated errors come with it', TIMEOUT, async () => {
    const error = await failure(run('cause'));
    assert.match(error.message, /the batch could not be read\ncaused by: TypeError: the disk said no\ncaused by: EIO/);
    const cause = error.cause as Error;
    assert.deepEqual([cause.message, (cause.cause as Error).name], ['the batch could not be read', 'TypeError']);
    const several = await failure(run('aggregate'));
    assert.match(
      several.message,
      /AggregateError: All promises were rejected\n {2}1\. first\n {2}2\. RangeError: second/,
    );
    assert.equal(((several.cause as AggregateError).errors[1] as Error).message, 'second');
  });
});

test('flags that name the program are not handed to its threads, others are', () => {
  const flags = [
    '--import',
    'tsx',
    '--input-type=module',
    '-e',
    'run()',
    '--no-warnings',
    '--test',
    '--test-reporter=tap',
    '--test-name-pattern',
    'it',
    '--input-type',
    'module',
  ];
  assert.deepEqual(threadFlags(flags), ['--import', 'tsx', '--no-warnings']);
});

describe('a program', () => {
  // Inside the package, so that its imports are found.
  let folder = '';
  before(() => {
    const parent = fileURLToPath(new URL('../../.lockstep/', import.meta.url));
    mkdirSync(parent, { recursive: true });
    folder = mkdtempSync(join(parent, 'programs-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));
  const write = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const node = (path: string, ...flags: string[]) =>
    spawnSync(process.execPath, [...flags, path], { encoding: 'utf8', timeout: 60_000 });
  const launch = (guard: string) => `
    import { appendFileSync } from 'node:fs';
    import { isMainThread } from 'node:worker_threads';
    import { MirroredStrategy } from '@lockstep/distribute';
    appendFileSync(new URL('./loads', import.meta.url), 'x');
    export default (context) => context.replicaIdInSyncGroup;
    const start = async () => console.log(await new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'], log() {} }).run(import.meta.url));
    ${guard}`;

  test('without `if (isMainThread)` ends with one error that says what to write', TIMEOUT, () => {
    for (const guard of ['await start();', 'setTimeout(start, 20);', 'void start();']) {
      const { status, stdout, stderr } = node(write('unguarded.mjs', launch(guard)));
      // A call that comes when the replicas are through has no one to tell: it must not multiply all the same.
      assert.ok(status !== 0 || stdout.includes('[ 0, 1 ]'), `${guard}: ${stdout}${stderr}`);
      if (guard === 'await start();')
        assert.match(stderr, /help: put the lines that start the run behind `if \(isMainThread\)/);
    }
    const guarded = node(write('guarded.mjs', launch('if (isMainThread) await start();')));
    assert.equal(guarded.stdout, '[ 0, 1 ]\n', guarded.stderr);
  });

  test('may be started with flags that no thread can be given, and its threads get the others', TIMEOUT, () => {
    const told = `
      import { isMainThread } from 'node:worker_threads';
      import { MirroredStrategy } from '@lockstep/distribute';
      export default () => [process.execArgv.join(' '), typeof gc, Error.stackTraceLimit].join();
      const strategy = new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'], log() {} });
      if (isMainThread) console.log((await strategy.run(import.meta.url)).join(' | '));`;
    const path = write('flags.mjs', told);
    for (const [flags, expected] of [
      [['--expose-gc', '--no-warnings', '--stack-trace-limit=7'], '--no-warnings,function,7'],
      [['--conditions', 'a', '--title', 'b, c', '--v8-pool-size', '2', '-C', 'd'], '--conditions a -C d,undefined,10'],
      [['--tls-cipher-list=AES, --no-warnings, x', '--no-deprecation'], '--no-deprecation,undefined,10'],
    ] as const) {
      const { stdout, stderr } = node(path, ...flags);
      assert.equal(stdout, `${expected} | ${expected}\n`, stderr);
    }
  });

  test('may be a test that `node --test` runs', TIMEOUT, () => {
    const path = write('replicas.test.mjs', launch("if (isMainThread) (await import('node:test')).test('it', start);"));
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { status, stdout } = spawnSync(process.execPath, ['--test', path], {
      encoding: 'utf8',
      timeout: 60_000,
      env,
    });
    assert.equal(status, 0, stdout);
    assert.match(stdout, /\[ 0, 1 \]/);
  });

  test('may start replicas of another module in a replica, and not of its own', TIMEOUT, async () => {
    assert.deepEqual(await run('other'), [[1], [1]]);
    assert.match(
      (await failure(run('own'))).message,
      /by file:.*testing\/programs\.js, which the replica runs: .*without end/,
    );
  });

  test('compiled to CommonJS is taken as it is', TIMEOUT, async () => {
    const path = write(
      'compiled.cjs',
      "'use strict'; Object.defineProperty(exports, '__esModule', { value: true });\nexports.default = (context) => 'compiled ' + context.replicaIdInSyncGroup;",
    );
    for (const url of [pathToFileURL(path), `${pathToFileURL(path)}?v=1#x`]) {
      assert.deepEqual(await strategy.run(url), ['compiled 0', 'compiled 1']);
    }
    const named = pathToFileURL(write('named.mjs', 'export function train() {}'));
    assert.match(
      (await failure(strategy.run(named))).message,
      /no function as its default export; it exports train\.\nhelp: export default/,
    );
  });

  test('bundled with packages left out runs; bundled into one file says how to', TIMEOUT, () => {
    const source = write('bundle.mjs', launch('if (isMainThread) await start();'));
    const build = { entryPoints: [source], bundle: true, platform: 'node' as const, format: 'esm' as const };
    const good = join(folder, 'good.mjs');
    buildSync({ ...build, packages: 'external', outfile: good });
    assert.equal(node(good).stdout, '[ 0, 1 ]\n');
    const whole = join(folder, 'whole.mjs');
    const banner = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";
    buildSync({ ...build, external: ['koffi'], banner: { js: banner }, outfile: whole });
    const { status, stderr } = node(whole);
    assert.notEqual(status, 0);
    assert.match(
      stderr,
      /a bundler has put @lockstep\/distribute into one file.*\nhelp: leave packages out of the bundle/,
    );
  });
});
