/**
 * Traces of trainers: what takes time is where it was spent, spans nest and add up to the step, every pack is there, and clocks of other
 * workers are found out.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createCrossDeviceOps } from '../cross-device-ops/create.js';
import { mpirun, whyNoMpirun } from '../mpi/testing/mpirun.js';
import type { ReplicaTrace } from '../replica/collect-trace.js';
import { MirroredStrategy } from '../strategy/mirrored-strategy.js';
import { OneDeviceStrategy } from '../strategy/one-device-strategy.js';
import type { Span } from '../trace/trace.js';
import { AHEAD_MS, type TraceOutcome } from './trace-replica.js';

const replica = new URL('./trace-replica.js', import.meta.url);
const program = new URL('./program.js', import.meta.url);
const PACKS = 3;

/** A sleep lasts at least as long as it was told to, by the system's clock; timers may round by this. */
const ROUNDING_MS = 0.5;

function checkNesting({ spans }: ReplicaTrace): void {
  const open: Span[] = [];
  for (const span of spans.toSorted((a, b) => a.begin - b.begin || b.end - a.end)) {
    while (open.length > 0 && (open.at(-1) as Span).end <= span.begin) open.pop();
    const outer = open.at(-1);
    assert.ok(!outer || span.end <= outer.end, `${span.name} ends after ${outer?.name}, within which it begins`);
    open.push(span);
  }
}

function check({ traces, phases, steps, nothing }: TraceOutcome, replicas: number): void {
  assert.equal(nothing, 0);
  assert.deepEqual(
    traces.map((one) => one.replica),
    Array.from({ length: replicas }, (_, i) => i),
  );
  for (const trace of traces) {
    checkNesting(trace);
    const named = (name: string) => trace.spans.filter((span) => span.name === name);
    for (const phase of ['forward', 'backward', 'reduce', 'update']) assert.equal(named(phase).length, 2, phase);
    for (const { begin, end } of named('first')) assert.ok(end - begin >= 20 - ROUNDING_MS, `${end - begin}`);
    for (const { begin, end } of named('second')) assert.ok(end - begin >= 10 - ROUNDING_MS, `${end - begin}`);
    // Backward makes the last one's gradient first.
    const gradients = trace.spans.filter(({ category }) => category === 'gradient').map(({ name }) => name);
    assert.equal(gradients.length, 4);
    const bytes = trace.spans.flatMap(({ category, args }) => (category === 'gradient' ? [args?.bytes] : []));
    assert.deepEqual(bytes.toSorted(), [4 * 3000, 4 * 3000, 4 * 5000, 4 * 5000]);
    assert.deepEqual(new Set(gradients), new Set(['first/kernel', 'second/kernel']));
    assert.deepEqual(trace.filled.map(({ pack }) => pack).toSorted(), [0, 0, 1, 1, 2, 2]);
  }
  // Every pack of both steps is applied by somebody.
  for (let pack = 0; pack < PACKS; pack++) {
    const updates = traces.flatMap(({ spans }) => spans.filter(({ name }) => name === `update pack ${pack}`));
    assert.ok(updates.length >= 2, `pack ${pack}: ${updates.length}`);
  }
  for (const [i, { begin, end }] of steps.entries()) {
    // This outcome is one replica's, the first's: see below.
    const spans = (traces[0] as ReplicaTrace).spans.filter((span) => span.begin >= begin && span.end <= end);
    const whole = spans.filter(({ category }) => category === 'step');
    const sum = whole.reduce((total, span) => total + span.end - span.begin, 0);
    assert.ok(sum <= end - begin && sum > 0.9 * (end - begin), `${sum} of ${end - begin}`);
    const length = (name: string) => whole.filter((one) => one.name === name).map((one) => one.end - one.begin)[0] ?? 0;
    const { forward, backward, reduce, update } = phases[i] as Record<string, number>;
    assert.ok(Math.abs(length('forward') - (forward as number)) < ROUNDING_MS);
    assert.ok(Math.abs(length('backward') - (backward as number)) < ROUNDING_MS);
    const rest = (reduce as number) + (update as number);
    assert.ok(Math.abs(length('reduce') + length('update') - rest) < 1, `${rest}`);
  }
}

describe('a trace', () => {
  test('of one replica', async () => {
    const [outcome] = await new OneDeviceStrategy().run<TraceOutcome>(replica, {});
    const { traces } = outcome as TraceOutcome;
    assert.deepEqual(traces[0]?.clock, { offset: 0, error: 0 });
    checkNesting(traces[0] as ReplicaTrace);
    assert.deepEqual(outcome?.offsets, []);
  });

  test('of replicas that share memory', async () => {
    const crossDeviceOps = createCrossDeviceOps('sharded', PACKS);
    const strategy = new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'], crossDeviceOps, log: () => {} });
    const outcomes = await strategy.run<TraceOutcome>(replica, {});
    assert.deepEqual(outcomes[0]?.traces, outcomes[1]?.traces);
    check(outcomes[0] as TraceOutcome, 2);
    assert.ok(outcomes[0]?.traces.every(({ journeys }) => journeys.length === 0));
  });

  test('of workers: packs travel, and another clock is found out', { skip: whyNoMpirun() }, async () => {
    const args = ['trace', 'multi-worker', '2', JSON.stringify({ numPacks: PACKS }), '{}'];
    const result = await mpirun(2, program, { args });
    const outcomes = result.results.flat() as TraceOutcome[];
    assert.equal(outcomes.length, 4, result.describe());
    const [outcome] = outcomes as [TraceOutcome];
    check(outcome, 4);
    assert.deepEqual(
      outcome.traces.map(({ worker }) => worker),
      [0, 0, 1, 1],
    );
    // The leader of each worker sends every pack of both steps; four bytes for each of 8000 weights.
    for (const { journeys, replica: rank } of outcome.traces) {
      assert.equal(journeys.length, rank % 2 === 0 ? 2 * PACKS : 0);
      if (rank % 2 > 0) continue;
      assert.equal(
        journeys.reduce((total, { bytes }) => total + bytes, 0),
        2 * 4 * 8000,
      );
      assert.ok(journeys.every(({ begin, end }) => end >= begin));
    }
    // Both processes have one clock in truth; one that is said to be ahead is found to be so, as exactly as it is claimed.
    const { clock } = outcome.traces[2] as ReplicaTrace;
    assert.ok(Math.abs(clock.offset) <= clock.error, `${clock.offset} ± ${clock.error} ms`);
    assert.equal(outcome.offsets.length, 1);
    const [[worker, { offset, error }]] = outcome.offsets as [[number, { offset: number; error: number }]];
    assert.equal(worker, 1);
    assert.ok(Math.abs(offset - AHEAD_MS) <= error && error < AHEAD_MS / 2, `${offset} ± ${error} ms`);
  });
});
