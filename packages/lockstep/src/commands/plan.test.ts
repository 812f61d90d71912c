/** lockstep plan as a command: from a timeline and a network to a table, JSON and a plot; from a measurement; and what it refuses. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { allReduceMs } from '@lockstep/distribute/step-model';
import type { PlanRow } from '../plan/plan.js';
import { planPlot } from '../plan/plot.js';
import { lockstep } from '../testing/process.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-plan-test-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** A worker that computes 100 ms, of which the gradient of 8 MB is final at the end, and updates in 8. */
const timeline = join(folder, 'timeline.json');
const slice = (name: string, cat: string, ts: number, dur: number, args = {}) => ({
  ...{ ph: 'X', pid: 0, tid: 0, name, cat, ts: ts * 1000, dur: dur * 1000, args },
});
writeFileSync(
  timeline,
  JSON.stringify({
    traceEvents: [
      slice('step 1', 'step', 0, 109),
      slice('forward', 'step', 0, 40),
      slice('backward', 'step', 40, 60),
      slice('kernel', 'gradient', 40, 60, { bytes: 8e6 }),
      slice('update', 'step', 101, 8),
    ],
  }),
);

const rowsOf = (output: string) => (JSON.parse(output.trim().split('\n').at(-1) as string) as { rows: PlanRow[] }).rows;

describe('lockstep plan', () => {
  const flags = ['plan', `--timeline=${timeline}`, '--batch_size=100', '--workers=4,1'];

  it('plans with so many packs as it is told', async () => {
    const network = ['--latency_us=500', '--bandwidth_gbit=0.8', '--all_reduce_alg=ring', '--workers=4', '--json'];
    const { output } = await lockstep([...flags, ...network, '--num_packs=8']);
    // Everything is final after 100 ms; a pack of 1 MB takes 6 messages of 0.5 ms and 1.5 MB at 0.1 MB a ms, and its update 1 ms.
    const [row] = rowsOf(output) as [PlanRow];
    assert.equal(row.numPacks, 8);
    assert.ok(Math.abs(row.stepMs - (100 + 8 * (3 + 15) + 1)) < 1e-6, `${row.stepMs}`);
  });

  it('says throughput, efficiency, what limits, hours and costs, as the closed form has them', async () => {
    const svg = join(folder, 'plan.svg');
    const network = ['--latency_us=500', '--bandwidth_gbit=0.8', '--all_reduce_alg=ring'];
    const more = ['--images=3600000', '--price_per_hour=2', `--svg=${svg}`, '--json'];
    const { status, output } = await lockstep([...flags, ...network, ...more]);
    assert.equal(status, 0, output);
    const [one, four] = rowsOf(output) as [PlanRow, PlanRow];
    assert.deepEqual([one.workers, one.stepMs, one.efficiency, one.limit], [1, 108, 1, 'compute']);
    assert.ok(Math.abs((one.hours as number) - (3_600_000 / 100) * (0.108 / 3600)) < 1e-9);
    // One pack: six messages of half a millisecond, 12 MB at 100 kB a millisecond, and the update. (Two packs: 230 ms, which is less by
    // under a hundredth, and so no reason for more of them.)
    const stepMs = 100 + 6 * 0.5 + 120 + 8;
    assert.ok(Math.abs(four.stepMs - stepMs) < 1e-6, `${four.stepMs}`);
    assert.deepEqual([four.numPacks, four.limit], [1, 'bandwidth']);
    assert.ok(Math.abs(four.efficiency - 108 / stepMs) < 1e-9);
    assert.ok(Math.abs((four.cost as number) - 4 * 2 * (four.hours as number)) < 1e-9);
    const plot = readFileSync(svg, 'utf8');
    assert.match(plot, /^<svg .*<\/svg>\n$/s);
    assert.equal(plot.match(/<circle /g)?.length, 2);
  });

  it('is drawn for one number of workers, too, whose speed is on a line of the grid', () => {
    const times = { stepMs: 125, computeMs: 125, stragglerMs: 0, latencyMs: 0, bandwidthMs: 0, updateMs: 0 };
    const row: PlanRow = {
      ...{ ...times, workers: 1, replicas: 1, algorithm: 'ring', wire: 'f32', numPacks: 1, hours: null, cost: null },
      ...{ imagesPerSecond: 1024, efficiency: 1, limit: 'compute' },
    };
    // At the left, on the lowest line.
    assert.match(planPlot([row], 'one'), /<circle cx="70\.0" cy="354\.0" /);
  });

  it('is printed though it cannot be drawn', async () => {
    const { status, output } = await lockstep([...flags, `--svg=${join(folder, 'none', 'plan.svg')}`]);
    assert.equal(status, 1, output);
    assert.match(output, /\n +4 +\d+ [\s\S]*none\/plan\.svg/);
  });

  it('is a table for people', async () => {
    const { status, output } = await lockstep([...flags, '--wire=both', '--price_per_hour=1']);
    assert.equal(status, 0);
    assert.match(output, /--price_per_hour has no effect without --images/);
    assert.match(output, /A worker computes 100\.0 ms, updates 8\.0 ms, and sends 8\.00 MB of gradients\./);
    assert.match(output, /workers +images\/s +efficiency +step +num_packs +all-reduce +limited by\n/);
    assert.match(output, /\n +4 +\d+ +\d+\.\d % +\d+\.\d ms +\d+ +rank_order bf16 +\w+\n/);
  });

  it('takes latency and bandwidth from a report of bench all_reduce', async () => {
    const network = { latencyMs: 0.2, bytesPerMs: 5e5 };
    const results = [1024, 65_536, 16_777_216].map((bytes) => ({
      ...{ algorithm: 'rank_order', bytes, ms: allReduceMs('rank_order', 2, bytes, network) },
    }));
    const file = join(folder, 'report.json');
    writeFileSync(file, `words before\n${JSON.stringify({ between: 'processes', ranks: 2, results })}\n`);
    const { status, output } = await lockstep([...flags, `--network=${file}`, '--json']);
    assert.equal(status, 0, output);
    const found = (JSON.parse(output.trim().split('\n').at(-1) as string) as { network: typeof network }).network;
    assert.ok(Math.abs(found.latencyMs / 0.2 - 1) < 1e-6 && Math.abs(found.bytesPerMs / 5e5 - 1) < 1e-6);
  });

  it('measures this machine where there is no timeline', async () => {
    const { status, output } = await lockstep([
      ...['plan', '--resnet_size=20', '--batch_size=4', '--num_cpus=2', '--workers=1,2', '--json'],
    ]);
    assert.equal(status, 0, output);
    const { profile, rows } = JSON.parse(output.trim().split('\n').at(-1) as string) as {
      profile: { gradients: { bytes: number }[]; replicas: number; spread: number[] };
      rows: PlanRow[];
    };
    assert.equal(profile.replicas, 2);
    // Sixteen steps of two replicas; and all weights of ResNet-20 as upstream counts them, in f32.
    assert.equal(profile.spread.length, 32);
    assert.equal(
      profile.gradients.reduce((sum, { bytes }) => sum + bytes, 0),
      4 * 272_762,
    );
    assert.ok(rows.every(({ stepMs, efficiency }) => stepMs > 0 && efficiency <= 1 + 1e-9));
  });

  it('says what is wrong', async () => {
    const text = join(folder, 'text');
    writeFileSync(text, 'no JSON');
    for (const [more, message] of [
      [['--workers=0'], /flag --workers=0: 0 is no number of workers/],
      [['--workers=1.5'], /--workers=1\.5: 1\.5 is no number/],
      [['--all_reduce_alg=nccl'], /--all_reduce_alg=nccl: there is no such algorithm between workers/],
      [[`--network=${text}`], /flag --network=.*text: /],
      [[`--network=${timeline}`, '--latency_us=3'], /--latency_us and --bandwidth_gbit say something else/],
      [[`--timeline=${text}`], /flag --timeline=.*text: .* A run with --profile_steps/],
      [['--timeline=/none.json'], /flag --timeline=\/none\.json: ENOENT/],
    ] as const) {
      const { status, output } = await lockstep([...flags, ...more]);
      assert.equal(status, 2, output);
      assert.match(output, message);
    }
  });
});
