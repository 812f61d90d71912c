/**
 * Replicas stay mirrors, and what would part them is refused: one list of cases for every strategy whose replicas are in step. Weights
 * are checked against closed forms and plain f64 loops.
 */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { CLIP_NORM, CLIP_STEPS, REFUSED_STEPS, targetOf } from './mirrors.js';
import { assertClose } from './strategy-cases.js';

export interface MirrorCasesOptions {
  /** Replicas in all, at least two. */
  readonly count: number;
  /** Processes with copies of a trainer's weights. */
  readonly processes: number;
  /** Runs a scene of mirrors.ts; results in replica order. */
  run<T>(args: object): Promise<T[]>;
}

interface Tried {
  message: string;
  weights: number[][];
}

/** Replica 0's start, each replica's own clipped gradient, their mean: in f64. */
function clippedByHand(targets: readonly number[][]): number[] {
  let w = [0, 0, 0];
  for (let step = 0; step < CLIP_STEPS; step++) {
    const gradients = targets.map((target) => {
      const gradient = w.map((value, i) => 2 * (value - (target[i] as number)));
      const norm = Math.hypot(...gradient);
      return gradient.map((value) => value * Math.min(1, CLIP_NORM / norm));
    });
    w = w.map(
      (value, i) => value - (0.1 * gradients.reduce((sum, one) => sum + (one[i] as number), 0)) / targets.length,
    );
  }
  return w;
}

/** Registers the cases. */
export function mirrorCases({ count, processes, run }: MirrorCasesOptions): void {
  const everywhere = <T>(results: readonly T[]): T => {
    assert.equal(results.length, count);
    for (const result of results) assert.deepEqual(result, results[0]);
    return results[0] as T;
  };
  const parity = (odd: number) =>
    Array.from({ length: count }, (_, i) => i)
      .filter((i) => i % 2 === odd)
      .join(', ');
  const replicas = (odd: number) => `replica${parity(odd).includes(',') ? 's' : ''} ${parity(odd)}`;
  const others = Array.from({ length: count }, (_, i) => i)
    .filter((i) => i !== 1)
    .join(', ');
  const notOne = `replica${count > 2 ? 's' : ''} ${others}`;

  it('merge: NaN, infinities, −0 and undefined arrive as they are', async () => {
    const rest = [Number.NEGATIVE_INFINITY, -0, undefined, new Float32Array([1.5, Number.NaN])];
    const expected = Array.from({ length: count }, (_, i) => ({ sent: [i + 1 === count ? Number.NaN : 0.5, ...rest] }));
    assert.deepEqual(everywhere(await run({ scene: 'merge' })), expected);
  });

  it('what is handed to a step is refused where it is handed over, and weights stay', async () => {
    assert.deepEqual(everywhere(await run({ scene: 'refusedSteps' })), { messages: REFUSED_STEPS, weights: [1, 1] });
  });

  it('tf.variableGrads, clipping, applyGradients: mirrored and reduced', async () => {
    const results = await run<{ weights: number[]; lines: string[] }>({ scene: 'clipped', late: false });
    const expected = clippedByHand(Array.from({ length: count }, (_, replica) => targetOf(replica)));
    for (const { weights, lines } of results) {
      assert.deepEqual(weights, results[0]?.weights);
      assertClose(weights, expected, 1e-6, 'weights');
      assert.deepEqual(lines, []);
    }
  });

  it('the same with variables that are made after the optimizer: mirrored at their first step, and that is said', async () => {
    const results = await run<{ weights: number[]; lines: string[] }>({ scene: 'clipped', late: true });
    for (const [replica, { weights, lines }] of results.entries()) {
      assert.deepEqual(weights, results[0]?.weights);
      assertClose(weights, clippedByHand([targetOf(0)]), 1e-6, 'weights');
      assert.equal(lines.length, replica === 0 ? 1 : 0, 'once');
    }
    assert.match(results[0]?.lines[0] as string, /^Variable 'w' had different values .*\nhelp: make variables before/);
  });

  for (const how of ['minimize', 'variableGrads']) {
    it(`two heads of one shape, each used by other replicas (${how}): refused, naming who has which`, async () => {
      const { message, weights } = everywhere(await run<Tried>({ scene: 'heads', how }));
      const [even, odd] = [replicas(0), replicas(1)];
      assert.equal(
        message.split('\n')[0],
        `Replicas apply gradients of different variables in step 1: 'head0' has a gradient on ${even} and none on ${odd}; ` +
          `'head1' has a gradient on ${odd} and none on ${even}.`,
      );
      assert.deepEqual(weights, [
        [0, 0],
        [0, 0],
      ]);
    });
  }

  it('heads in lists of their own, and in another order: the first is refused, the second matched by variable', async () => {
    const own = everywhere(await run<Tried>({ scene: 'heads', how: 'own list' }));
    assert.match(own.message, /^Variable 0 differs: 'head1' of replica 1 .* 'head0' of replica 0/);
    const trainer = everywhere(await run<Tried>({ scene: 'heads', how: 'trainer order' }));
    assert.match(
      trainer.message,
      /^Variable 0 differs: 'head1' of replica 1 .*\nhelp: give the same variables in the same order/,
    );
    const share = [count - Math.floor(count / 2), Math.floor(count / 2)].map((n) => n / count) as [number, number];
    const truth = [
      [-share[0], -share[0]],
      [-10 * share[1], -10 * share[1]],
    ];
    const both = everywhere(await run<Tried>({ scene: 'heads', how: 'both' }));
    assert.equal(both.message, 'taken');
    for (const i of [0, 1]) assertClose(both.weights[i] as number[], truth[i] as number[], 1e-6, `head${i}`);
  });

  it('two heads in a trainer: refused before any weight changes', async () => {
    const { message, weights } = everywhere(await run<Tried>({ scene: 'heads', how: 'trainer' }));
    assert.match(message, /^Replicas produced gradients of different variables in step 1: 'head0' has one on replica/);
    assert.ok(message.includes(`none on ${replicas(1)}`), message);
    assert.deepEqual(weights, [
      [0, 0],
      [0, 0],
    ]);
  });

  const settings: [string, RegExp | string][] = [
    ['trainer rate', `Replicas gave different learning rates in step 1: ${notOne}: 0.5; replica 1: 0.25.`],
    ['loss scale', `Replicas have different loss scales in step 1: ${notOne}: 1; replica 1: 2.`],
    [
      'rate',
      /^Replicas apply gradients with different settings in step 1: .*"learningRate":0\.5.*replica 1: .*"learningRate":0\.25/,
    ],
    ['momentum', /different settings in step 1: .*"momentum":0\.9.*replica 1: .*"momentum":0\.8/],
    ['kind', /different settings in step 1: .*Momentum .*replica 1: SGD /],
    ['nan', /^The optimizer's learning rate must be a finite number, got NaN/],
  ];
  for (const [what, expected] of settings) {
    it(`a replica that decides by itself (${what}) is refused, and nothing is mixed`, async () => {
      const { message, weights } = everywhere(await run<Tried>({ scene: 'settings', what }));
      if (typeof expected === 'string') assert.equal(message.split('\n')[0], expected);
      else assert.match(message, expected);
      assert.deepEqual(weights, [0]);
    });
  }

  it('inputs of other widths, kinds and numbers are refused; fewer examples are taken, and the mean is of means', async () => {
    const result = everywhere(await run<Record<string, unknown>>({ scene: 'inputs' }));
    assert.equal(result.fewer, 'taken');
    const mean = (count - 1 + 3) / count;
    assertClose(result.weight as number[], [1 - 0.5 * mean], 1e-6, 'weight');
    assert.match(
      result.width as string,
      new RegExp(`^Replicas gave different inputs to step 2: ${notOne}: float32 \\[4,2\\]; `),
    );
    assert.match(result.width as string, /; replica 1: float32 \[2,4\]\./);
    assert.match(result.kind as string, /to step 3: .*float32 \[4,2\]; replica 1: int32 \[4,2\]\./);
    assert.match(result.number as string, /to step 4: .*; replica 1: float32 \[4,2\] and float32 \[4,2\]\./);
  });

  for (const how of ['variables', 'made later', 'layers']) {
    it(`what is trained later is mirrored then (${how})`, async () => {
      const weights = everywhere(await run<number[][]>({ scene: 'unfrozen', how }));
      for (const value of weights.flat()) assert.ok(Number.isFinite(value));
      // Adam moves a weight by about its rate in each of three steps, from where replica 0's was.
      const [body, start] = how === 'layers' ? [weights[0], 0.3] : [weights[1], 0.5];
      for (const value of body as number[]) assert.ok(Math.abs(value - start) < 0.035, `${value}`);
    });
  }

  interface Loaded {
    message: string;
    names: string[];
    before: number[][];
    after: number[][];
  }

  it('the chief loads before the first step: everybody has it, statistics too', async () => {
    const results = await run<Loaded>({ scene: 'loaded', when: 'before' });
    assert.equal(everywhere(results).message, 'taken');
  });

  it('the chief loads after a step: refused in the next one, naming the first variable and who has what', async () => {
    const results = await run<Loaded>({ scene: 'loaded', when: 'after' });
    for (const { message, before } of results) {
      assert.match(
        message,
        /^Variable '.*kernel' is not the same on all replicas before the update in step 2: replica 0: \[7, 7\] \(norm 9\.89949\); replica/,
      );
      assert.deepEqual(before.length, 6);
    }
    const [{ message }] = (await run<Loaded>({ scene: 'loaded', when: 'save' })) as [Loaded];
    assert.match(
      message,
      /^Variable '.*kernel' is not the same on all replicas now: replica 0: \[7, 7\]/,
      'before a save',
    );
  });

  it('all load alike, or the chief does and mirrors: taken; what is trained is the same then, statistics where they are averaged', async () => {
    for (const when of ['everywhere', 'mirrored']) {
      const results = await run<Loaded>({ scene: 'loaded', when });
      for (const { message, names, before, after } of results) {
        assert.equal(message, 'taken');
        const first = results[0] as Loaded;
        for (const [i, name] of names.entries()) {
          if (!name.startsWith('moving')) assert.deepEqual(before[i], first.before[i], name);
        }
        assert.deepEqual(after, first.after);
      }
    }
  });

  it('replicas that part without an assignment are found within ten steps', async () => {
    const { message, steps } = everywhere(await run<{ message: string; steps: number }>({ scene: 'slot' }));
    // Where slots lie in shared memory they are compared themselves, and at once.
    assert.match(
      message,
      /^Variable 'w(\/momentum)?' is not the same on all replicas before the update in step \d+: .*replica 1: \[/,
    );
    assert.ok(steps <= 11, `${steps} steps`);
  });

  it("a trainer's weights that are changed in one process are found, before a save at once", async () => {
    const results = await run<{ first: string; save: string; later: string; steps: number }>({
      scene: 'trainerWeights',
    });
    const { first, save, later, steps } = everywhere(results);
    assert.equal(first, 'taken');
    if (processes === 1) {
      assert.deepEqual([save, later], ['taken', 'taken'], 'there is one copy, which all have');
      return;
    }
    assert.match(
      save,
      /^Variable 'second' is not the same on all workers now: worker 0: .*; worker 1: \[0\.5, 0\.5, 0\.5, …\]/,
    );
    assert.match(later, /^Variable 'second' is not the same on all workers before the update in step/);
    assert.ok(steps <= 12, `${steps} steps`);
  });

  it("a trainer's step finds frozen layers and statistics as replica 0 had them", async () => {
    assert.deepEqual(everywhere(await run({ scene: 'beside' })), [[0, 0], [0], [-0.5, -0.5]]);
  });

  it("variables that are a replica's own stay so", async () => {
    const results = await run<{ own: number[] | null; w: number[] }>({ scene: 'privately' });
    assert.deepEqual(
      results.map(({ own }) => own),
      results.map((_, replica) => (replica === 0 ? [5, 5] : null)),
    );
    const expected = (-12 * 0.5 * (count + 1)) / 2;
    for (const { w } of results) assertClose(w, [expected, expected], 1e-5, 'w');
  });

  it('averageMetrics: means on all, other metrics are refused', async () => {
    const result = everywhere(await run<{ logs: object; other: string; wrong: string }>({ scene: 'metrics' }));
    const mean = (count - 1) / 2;
    assert.deepEqual(result.logs, { val_loss: mean, loss: 2 * mean, acc: Number.NaN });
    assert.equal(result.other.split('\n')[0], `Replicas have different metrics: ${notOne}: loss; replica 1: acc.`);
    assert.match(result.wrong, /^Metric 'loss' must be a number, got 'low'/);
  });

  it('an optimizer without context.optimizer() is warned of once', async () => {
    const results = await run<Record<string, string[]>>({ scene: 'forgotten' });
    for (const [replica, { used, alone, forgotten }] of results.entries()) {
      assert.deepEqual([used, alone], [[], []]);
      assert.equal(forgotten?.length, replica === 0 ? 1 : 0);
    }
    assert.match(
      results[0]?.forgotten?.[0] as string,
      new RegExp(
        `^An optimizer \\(Adam\\) updates weights without context\\.optimizer\\(\\): each of the ${count} replicas trains`,
      ),
    );
  });

  it('what is no optimizer is refused', async () => {
    const given = ["'adam'", 'undefined', 'null', 'an object with members none', 'a float32 tensor of shape []'];
    assert.deepEqual(
      everywhere(await run({ scene: 'wrongOptimizers' })),
      given.map((what) => `context.optimizer() takes an optimizer of TensorFlow.js, got ${what}.`),
    );
  });
}
