/** `bench all_reduce`: nccl-tests' definitions by hand, and the command itself between replicas and between processes. */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { isMpiAvailable } from '@lockstep/distribute';
import type { AllReduceReport } from './all-reduce.js';
import { allReduceResult, checkSum, checkValue, fitOf, notFitted, TABLE_ELEMENTS } from './all-reduce-result.js';

const run = promisify(execFile);
const BIN = fileURLToPath(new URL('../bin.js', import.meta.url));
const LIMIT = { timeout: 120_000 };
const withoutMpi =
  spawnSync('mpirun', ['--version']).status !== 0 || !isMpiAvailable() ? 'Open MPI is not installed' : false;

async function report(args: readonly string[], launcher: readonly string[] = []): Promise<AllReduceReport> {
  const [command, ...rest] = [...launcher, process.execPath, BIN, 'bench', 'all_reduce', '--json', ...args];
  const { stdout } = await run(command as string, rest, { timeout: 100_000 });
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as AllReduceReport;
}

describe('definitions', () => {
  test('the slowest rank counts, of its iterations the median; bandwidths as nccl-tests', () => {
    // Four ranks, 1,000,000 bytes in 2 ms: 0.5 GB/s, and 2·3/4 of it on the bus.
    const samples = [
      [1, 2, 9],
      [2, 1, 1],
      [1, 1, 1],
      [1, 1, 3],
    ];
    assert.deepEqual(allReduceResult('ring', 250_000, samples), {
      algorithm: 'ring',
      elements: 250_000,
      bytes: 1_000_000,
      ranks: 4,
      iterations: 3,
      ms: 2,
      algbw_gb_s: 0.5,
      busbw_gb_s: 0.75,
    });
  });

  test('the table runs from 1 KB to 256 MB', () => {
    assert.equal(4 * (TABLE_ELEMENTS[0] as number), 2 ** 10);
    assert.equal(4 * (TABLE_ELEMENTS.at(-1) as number), 2 ** 28);
  });

  test('a network is fitted where times grow with the bytes', () => {
    const row = (algorithm: string, bytes: number, ms: number) => allReduceResult(algorithm, bytes / 4, [[ms], [ms]]);
    // Two ranks: 2 α + S/β, with α = 0.1 ms and β = 10⁵ bytes a millisecond, which is 0.8 Gbit/s.
    const ring = [1_000_000, 4_000_000].map((bytes) => row('ring', bytes, 0.2 + bytes / 1e5));
    const falling = [row('rank_order', 1000, 2), row('rank_order', 4000, 1)];
    const results = [...ring, ...falling, row('open_mpi', 4000, 1)];
    const fit = fitOf(results, 2);
    assert.deepEqual(Object.keys(fit), ['ring']);
    assert.ok(Math.abs((fit.ring?.latency_us as number) - 100) < 1e-6);
    assert.ok(Math.abs((fit.ring?.bandwidth_gbit as number) - 0.8) < 1e-9);
    assert.deepEqual(notFitted(results, fit), ['rank_order']);
    assert.deepEqual(fitOf([row('ring', 1000, 1)], 2), {}, 'one size');
  });

  test('a wrong sum is found', () => {
    const sum = Float32Array.from({ length: 200 }, (_, i) => [0, 1, 2].reduce((s, rank) => s + checkValue(rank, i), 0));
    checkSum(sum, 3, 'good');
    sum[150] = 1;
    assert.throws(() => checkSum(sum, 3, 'bad'), /bad is wrong: element 150 of 200 is 1, not 168/);
  });
});

describe('the command', () => {
  test('every algorithm of replicas, the fused update, and MPI beside them', LIMIT, async () => {
    const { between, ranks, num_packs, results, mpi, mpi_skipped } = await report([
      ...['--elements=10007', '--num_cpus=3', '--num_packs=2', '--iterations=3'],
    ]);
    assert.deepEqual([between, ranks, num_packs], ['replicas', 3, 2]);
    assert.deepEqual(
      results.map(({ algorithm }) => algorithm),
      ['sharded', 'hierarchical_copy', 'reduction_to_one_device', 'sharded+momentum', 'sharded+adam'],
    );
    for (const { elements, bytes, iterations, ms, algbw_gb_s, busbw_gb_s } of [...results, ...mpi]) {
      assert.deepEqual([elements, bytes, iterations], [10_007, 40_028, 3]);
      assert.ok(ms > 0);
      assert.equal(algbw_gb_s, 40_028 / 1e6 / ms);
      assert.ok(Math.abs(busbw_gb_s / algbw_gb_s - 4 / 3) < 1e-12);
    }
    if (withoutMpi) assert.match(mpi_skipped ?? '', /mpirun|libmpi/);
    else
      assert.deepEqual(
        mpi.map(({ algorithm }) => algorithm),
        ['MPI_Allreduce'],
      );
  });

  test('one algorithm of one size: its figures at the top', LIMIT, async () => {
    const one = await report(['--elements=0', '--all_reduce_alg=hierarchical_copy', '--iterations=2', '--nompi']);
    assert.deepEqual([one.algorithm, one.elements, one.algbw_gb_s], ['hierarchical_copy', 0, 0]);
    assert.equal(one.mpi_skipped, '--nompi was given');
  });

  test('the ranks of an MPI job', { ...LIMIT, skip: withoutMpi }, async () => {
    const launcher = ['mpirun', '--allow-run-as-root', '--oversubscribe', '--bind-to', 'none', '-np', '2'];
    const { between, ranks, results } = await report(['--elements=5003', '--iterations=2'], launcher);
    assert.deepEqual([between, ranks], ['processes', 2]);
    assert.deepEqual(
      results.map(({ algorithm, ms }) => [algorithm, ms > 0]),
      ['MPI_Allreduce', 'rank_order', 'ring', 'open_mpi'].map((name) => [name, true]),
    );
  });

  test('latency and bandwidth of a job, which give its times back', { ...LIMIT, skip: withoutMpi }, async () => {
    const launcher = ['mpirun', '--allow-run-as-root', '--oversubscribe', '--bind-to', 'none', '-np', '2'];
    const { results, fit = {} } = await report(
      ['--fit', '--all_reduce_alg=ring', '--iterations=15', '--max_bytes=4194304'],
      launcher,
    );
    const rows = results.filter(({ bytes }) => bytes > 0);
    const sum = (term: (ms: number) => number) => rows.reduce((total, { ms }) => total + term(ms), 0);
    // On a busy machine times may not grow with the bytes; then there is no bandwidth, and one message's time alone is fitted.
    const alone = {
      latency_us: (1e3 * sum((ms) => 2 / ms)) / sum((ms) => (2 / ms) ** 2),
      bandwidth_gbit: Number.POSITIVE_INFINITY,
    };
    const { latency_us: latency, bandwidth_gbit: gbit } = fit.ring ?? alone;
    assert.ok(latency >= 0 && gbit > 0);
    // The best α and β in proportion: with any that are a tenth off, the sum of squares is larger.
    const error = (alphaUs: number, beta: number) =>
      rows.reduce(
        (sum, { bytes, ms }) => sum + ((2 * alphaUs) / 1e3 / ms + (bytes * 8) / (beta * 1e6) / ms - 1) ** 2,
        0,
      );
    for (const factor of [0.9, 1.1]) {
      for (const other of fit.ring ? [gbit * factor] : [1, 10, 1e4])
        assert.ok(error(latency, gbit) <= error(latency, other));
      if (latency > 0) assert.ok(error(latency, gbit) <= error(latency * factor, gbit));
    }
  });

  test('--fit where there is nothing to fit is an error', LIMIT, async () => {
    const args = [BIN, 'bench', 'all_reduce', '--fit', '--nompi'];
    const error = await run(process.execPath, args).catch((thrown: { stderr: string }) => thrown);
    assert.match(
      (error as { stderr: string }).stderr,
      /--fit=true: between the replicas of one process there is no network/,
    );
  });

  test('nccl and unknown algorithms are errors that say what works', LIMIT, async () => {
    const failure = async (name: string) => {
      const args = [BIN, 'bench', 'all_reduce', '--elements=1', `--all_reduce_alg=${name}`];
      const error = await run(process.execPath, args).catch((thrown: { code: number; stderr: string }) => thrown);
      assert.equal((error as { code: number }).code, 1);
      return (error as { stderr: string }).stderr;
    };
    assert.match(await failure('nccl'), /NCCL all-reduce works on NVIDIA devices only.*\nhelp: .*hierarchical_copy/);
    assert.match(await failure('carrier_pigeon'), /no all-reduce algorithm 'carrier_pigeon'\.\nhelp: choose one of /);
  });
});
