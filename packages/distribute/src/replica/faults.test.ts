/**
 * What goes wrong on a replica: every other stops within seconds, the error names the replica and its cause, and no thread
 * is left. Time limits here only say that an end comes at all.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { createCrossDeviceOps } from '../cross-device-ops/create.js';
import { MirroredStrategy } from '../strategy/mirrored-strategy.js';
import { ReplicaError } from './replica-error.js';
import type { RunOptions } from './run-replicas.js';

const scenes = new URL('../strategy/testing/replicas.js', import.meta.url);
const strategy = new MirroredStrategy({ devices: ['cpu:0', 'cpu:1', 'cpu:2'], log: () => {} });
const TIMEOUT = { timeout: 120_000 };
/** For replicas that do not come: how long the others wait. Where something else is looked for, they wait longer than a busy machine needs. */
const STALLED: RunOptions = { timeoutSeconds: 2 };
let warm: Promise<unknown> | undefined;

/** Threads of this process, where the system lists them. */
function threads(): number | null {
  return process.platform === 'linux' ? readdirSync('/proc/self/task').length : null;
}

async function failure(
  args: Record<string, unknown>,
  options: RunOptions = {},
  failing: MirroredStrategy = strategy,
): Promise<ReplicaError> {
  // The first run of a process starts helper threads that stay; they are no leak.
  warm ??= strategy.run(scenes, { scene: 'identity' });
  await warm;
  const before = threads();
  let error: unknown;
  try {
    await failing.run(scenes, args, { timeoutSeconds: 60, ...options });
  } catch (thrown) {
    error = thrown;
  }
  assert.ok(error instanceof ReplicaError, `a ReplicaError was expected, got ${error}`);
  const left = threads();
  assert.ok(before === null || left === null || left <= before, `threads before ${before}, after ${left}`);
  return error;
}

describe('faults in the middle of training', () => {
  test('no fault: the scene itself is sound', TIMEOUT, async () => {
    assert.deepEqual(await strategy.run(scenes, { scene: 'fault' }), ['done', 'done', 'done']);
  });

  test('a replica throws', TIMEOUT, async () => {
    const error = await failure({ scene: 'fault', fault: 'throw', culprit: 1 });
    assert.match(error.message, /^Replica 1 \(cpu:1\) failed: RangeError: the dog ate my batch/);
    assert.deepEqual([error.replica, error.kind], [1, 'error']);
    assert.match((error.cause as Error).stack ?? '', /testing\/replicas/, 'the stack says where');
  });

  test('a replica calls process.exit', TIMEOUT, async () => {
    const error = await failure({ scene: 'fault', fault: 'exit', culprit: 2 });
    assert.match(error.message, /^Replica 2 \(cpu:2\) ended by process\.exit\(3\)/);
    assert.deepEqual([error.replica, error.kind], [2, 'exit']);
  });

  test('a replica runs out of memory', TIMEOUT, async () => {
    const limits = { resourceLimits: { maxOldGenerationSizeMb: 64 } };
    const error = await failure({ scene: 'fault', fault: 'memory', culprit: 0 }, limits);
    assert.match(error.message, /^Replica 0 \(cpu:0\) ran out of memory: .*\nhelp: smaller batches/);
    assert.deepEqual([error.replica, error.kind], [0, 'out-of-memory']);
  });

  test('a replica stops answering while the others reduce', TIMEOUT, async () => {
    const error = await failure({ scene: 'fault', fault: 'hang', culprit: 1 }, STALLED);
    assert.match(error.message, /^Replica 1 \(cpu:1\) /);
    assert.deepEqual([error.replica, error.kind], [1, 'stalled']);
  });

  test('a replica makes fewer steps: who is where', TIMEOUT, async () => {
    const error = await failure({ scene: 'fault', fault: 'fewer-steps', culprit: 1 });
    assert.match(error.message, /^Replica 1 \(cpu:1\) returned while replica [02] waits for it/);
    assert.match(
      error.message,
      /replica 0 is waiting in step 4; replica 1 finished after 3 steps; replica 2 is waiting in step 4/,
    );
    assert.deepEqual([error.replica, error.kind], [1, 'out-of-step']);
  });

  test('a replica produces more gradients: who has which', TIMEOUT, async () => {
    const error = await failure({ scene: 'fault', fault: 'more-gradients', culprit: 2 });
    assert.match(
      error.message,
      /gradients of different variables in step 4: .\d+. has one on replica 2 and none on replicas 0, 1\./,
    );
  });
});

describe('faults in the middle of a reduction: some packs are full, and others wait for the rest', () => {
  const expected: [string, string, RegExp][] = [
    ['hang in backward', 'stalled', /^Replica 1 \(cpu:1\) did not take part \(replica [02]: Rank 1 did not arrive in /],
    ['loop in backward', 'stalled', /^Replica 1 \(cpu:1\) did not take part \(replica [02]: Rank 1 did not arrive in /],
    ['throw in backward', 'error', /^Replica 1 \(cpu:1\) failed: RangeError: the dog ate my gradient/],
    ['exit in backward', 'exit', /^Replica 1 \(cpu:1\) ended by process\.exit\(4\)/],
  ];
  for (const algorithm of ['sharded', 'hierarchical_copy']) {
    const packed = new MirroredStrategy({
      devices: ['cpu:0', 'cpu:1', 'cpu:2'],
      crossDeviceOps: createCrossDeviceOps(algorithm, 4),
    });
    for (const [fault, kind, message] of expected) {
      test(`${algorithm}, 4 packs: ${fault}`, TIMEOUT, async () => {
        const error = await failure({ scene: 'fault', fault, culprit: 1 }, kind === 'stalled' ? STALLED : {}, packed);
        assert.match(error.message, message);
        assert.deepEqual([error.replica, error.kind], [1, kind]);
        assert.match(
          error.message,
          /\n\(replica 0 .*; replica 1 (is computing in step 4|failed after 4 steps); replica 2 .*\)$/,
        );
      });
    }
  }
});

describe('misuse', () => {
  test('different lists of tensors', TIMEOUT, async () => {
    const { message } = await failure({ scene: 'differentLists' });
    assert.match(message, /Replicas reduce different gradients: replica 0 has 2 tensors, replica 1 has 1 tensors/);
  });
  test('mirroring different models names the first difference', TIMEOUT, async () => {
    const shapes = await failure({ scene: 'mirror', shapes: [[2], [3], [2]] });
    assert.match(
      shapes.message,
      /Variable 1 differs: 'odd' of replica 1 is float32 \[3\], 'odd' of replica 0 is float32 \[2\]/,
    );
    const counts = await failure({ scene: 'mirror', shapes: [[2], [2], [2]], extra: 2 });
    assert.match(counts.message, /Replica 2 has 3 variables, replica 0 has 2/);
  });
  test('one optimizer distributed twice', TIMEOUT, async () => {
    assert.match((await failure({ scene: 'twice' })).message, /This optimizer is distributed already\.\nhelp:/);
  });
  test("a variable assigned behind the trainer's back", TIMEOUT, async () => {
    assert.match(
      (await failure({ scene: 'assigned' })).message,
      /was assigned, so the trainer's weights no longer reach it\.\nhelp: write new values to trainer\.weights/,
    );
  });
  test('a step that nobody waits for fails the run all the same', TIMEOUT, async () => {
    assert.match(
      (await failure({ scene: 'unawaited', rates: [Number.NaN] })).message,
      /must be a finite number .* got NaN/,
    );
  });
  test('a module without a default export, a module that is not there, a name that is no URL', TIMEOUT, async () => {
    const noDefault = new URL('./replica-error.js', import.meta.url);
    await assert.rejects(
      strategy.run(noDefault),
      /could not start: TypeError: The replica module .* has no function as its default export/,
    );
    await assert.rejects(strategy.run(new URL('./nobody.js', import.meta.url)), /could not start: .*nobody\.js/);
    await assert.rejects(async () => strategy.run('./train.js'), /needs the URL of a module, got '\.\/train\.js'/);
  });
  test('arguments that cannot be cloned', TIMEOUT, async () => {
    await assert.rejects(
      strategy.run(scenes, { scene: 'identity', value: () => 1 }),
      /could not be started: .*could not be cloned/,
    );
  });
  test('an onReport that throws fails the run', TIMEOUT, async () => {
    const onReport = () => {
      throw new Error('full disk');
    };
    await assert.rejects(
      strategy.run(scenes, { scene: 'untilStopped' }, { onReport }),
      /sent a report that onReport could not take: full disk/,
    );
  });
});

describe('cancellation', () => {
  test('a signal that has fired starts nothing', async () => {
    await assert.rejects(async () => strategy.run(scenes, { scene: 'identity' }, { signal: AbortSignal.abort() }), {
      name: 'AbortError',
    });
  });
  test('a replica that does not listen is ended after the grace', TIMEOUT, async () => {
    const controller = new AbortController();
    const running = strategy.run(
      scenes,
      { scene: 'fault', fault: 'hang', culprit: 1 },
      { signal: controller.signal, graceSeconds: 0.2 },
    );
    setTimeout(() => controller.abort(), 300);
    await assert.rejects(running, { name: 'AbortError' });
  });
  test('without a limit on the grace it is left to end by itself', TIMEOUT, async () => {
    const controller = new AbortController();
    const running = strategy.run(
      scenes,
      { scene: 'longStep', milliseconds: 1500 },
      { signal: controller.signal, graceSeconds: Number.POSITIVE_INFINITY },
    );
    setTimeout(() => controller.abort(), 300);
    assert.deepEqual(await running, [true, true, true]);
  });
});

test('1,000 steps of four replicas leave threads, memory and tensors as they were', { timeout: 120_000 }, async () => {
  const four = new MirroredStrategy({ devices: ['cpu:0', 'cpu:1', 'cpu:2', 'cpu:3'], log: () => {} });
  await four.run(scenes, { scene: 'identity' });
  const before = threads();
  const results = await four.run<{ tensors: number[]; heapMb: number[]; weights: number[] }>(scenes, {
    scene: 'endure',
    steps: 1000,
  });
  for (const { tensors, heapMb, weights } of results) {
    assert.equal(new Set(tensors).size, 1, 'the same number of tensors after every step');
    const [early = 0, late = 0] = heapMb;
    assert.ok(late - early < 4, `heap and buffers after 200 steps ${early} MB, after 1,000 ${late} MB`);
    assert.deepEqual(weights, results[0]?.weights);
  }
  const left = threads();
  assert.ok(before === null || left === null || left <= before, `threads before ${before}, after ${left}`);
});
