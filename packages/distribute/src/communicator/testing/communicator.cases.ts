/**
 * The cases that every Communicator must pass. An implementation's test file says how to run a scene on n ranks.
 *
 * Sums are compared with a plain f64 loop, and bit by bit between ranks. What a fault does is the same everywhere: the other
 * ranks get a CommunicatorError that names the rank, soon.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

/** How a rank ended. */
export type RankOutcome =
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'error'; readonly name: string; readonly message: string; readonly rank?: number }
  /** It ended without either: an exit, or it had to be killed. */
  | { readonly kind: 'exit' };

/**
 * Runs `scene` of communicator.scenes.ts on `size` ranks, and ends every rank that has not ended by itself.
 * A rank that throws or exits must be made known to the others as the implementation does it in earnest.
 */
export type RunOnRanks = (
  size: number,
  scene: string,
  args: Record<string, unknown>,
  options: { timeoutMs: number },
) => Promise<RankOutcome[]>;

export interface CommunicatorCasesOptions {
  readonly name: string;
  /** Numbers of ranks to test with. Default 1 to 9. */
  readonly sizes?: readonly number[];
  /** The ranks' time-out where one of them freezes, in milliseconds; everything else they hear of at once. Default 2,000. */
  readonly faultTimeoutMs?: number;
  /** Faults that the implementation's runner can stage. Default all. */
  readonly faults?: readonly string[];
  /** Elements of the largest buffers: more than one staging area, and a prime. Default 300,007. */
  readonly large?: number;
}

const SIZES = [1, 2, 3, 4, 5, 6, 7, 8, 9];
const LENGTHS = [0, 1, 3, 7, 101, 4099];
const TIMEOUT_MS = 30_000;

/** Declares the cases. */
export function communicatorCases(runOnRanks: RunOnRanks, options: CommunicatorCasesOptions): void {
  const { name, sizes = SIZES, faultTimeoutMs = 2000, faults, large = 300_007 } = options;

  async function valuesOf<T>(size: number, scene: string, args: Record<string, unknown> = {}): Promise<T[]> {
    const outcomes = await runOnRanks(size, scene, args, { timeoutMs: TIMEOUT_MS });
    assert.equal(outcomes.length, size);
    return outcomes.map((outcome, rank) => {
      assert.equal(outcome.kind, 'value', `rank ${rank}: ${JSON.stringify(outcome)}`);
      return (outcome as { value: T }).value;
    });
  }

  async function noDifferences(size: number, scene: string, args: Record<string, unknown>): Promise<void> {
    const results = await valuesOf<{ differences: string[]; hashes?: number[] }>(size, scene, args);
    for (const [rank, { differences, hashes }] of results.entries()) {
      assert.deepEqual(differences, [], `rank ${rank}`);
      assert.deepEqual(hashes, results[0]?.hashes, `the bits of rank ${rank} and of rank 0`);
    }
  }

  describe(`Communicator ${name}`, () => {
    for (const size of sizes) {
      it(`${size} ranks: all-reduces equal a plain loop, with the same bits on every rank`, () =>
        noDifferences(size, 'allReduce', { lengths: LENGTHS, large }));

      it(`${size} ranks: broadcast, all-gather, messages, all-reduces under way`, async () => {
        const lengths = [...LENGTHS, 150_001];
        await noDifferences(size, 'broadcast', { lengths: size > 4 ? LENGTHS : lengths });
        await noDifferences(size, 'allGather', { lengths });
        await noDifferences(size, 'messages', { lengths });
        await noDifferences(size, 'asynchronous', { lengths: [...lengths, large] });
      });
    }

    it('nobody leaves a barrier before everybody has come', async () => {
      const ranks = await valuesOf<{ came: number; left: number }[]>(3, 'barrier');
      for (const round of [0, 1, 2]) {
        const came = Math.max(...ranks.map((rounds) => rounds[round]?.came ?? Number.NaN));
        const left = Math.min(...ranks.map((rounds) => rounds[round]?.left ?? Number.NaN));
        assert.ok(left >= came, `round ${round}: one left at ${left}, one came at ${came}`);
      }
    });

    it('after an abort every call throws, and says why', async () => {
      for (const messages of await valuesOf<string[]>(3, 'afterAbort')) {
        for (const message of messages) {
          assert.match(message, /^CommunicatorError: /);
          assert.match(message, /enough/);
        }
      }
    });

    const staged = faults ?? ['throw', 'abort', 'exit', 'freeze', 'close'];
    for (const fault of staged) {
      it(`a rank that does this stops the others, who name it: ${fault}`, async () => {
        const began = Date.now();
        // On a busy machine one that does not freeze may be late, and that is not what the others are to find out.
        const timeoutMs = fault === 'freeze' ? faultTimeoutMs : TIMEOUT_MS;
        const outcomes = await runOnRanks(3, 'fault', { culprit: 1, fault }, { timeoutMs });
        assert.ok(Date.now() - began < timeoutMs + 20_000, 'the ranks ended in bounded time');
        for (const rank of [0, 2]) {
          const outcome = outcomes[rank];
          assert.equal(outcome?.kind, 'error', `rank ${rank}: ${JSON.stringify(outcome)}`);
          if (outcome?.kind !== 'error') return;
          assert.equal(outcome.name, 'CommunicatorError', outcome.message);
          assert.equal(outcome.rank, 1, outcome.message);
          assert.match(outcome.message, /\brank 1\b/i);
          if (fault === 'abort') assert.match(outcome.message, /the dog ate my gradients/);
          if (fault === 'freeze') assert.match(outcome.message, /all_reduce of 400 bytes/);
        }
      });
    }

    for (const [fault, theirs] of [
      ['other operation', /broadcast of 400 bytes/],
      ['other size', /all_reduce of 396 bytes/],
    ] as const) {
      it(`ranks that issue different collectives are told who issued what: ${fault}`, async () => {
        const outcomes = await runOnRanks(3, 'fault', { culprit: 1, fault }, { timeoutMs: TIMEOUT_MS });
        for (const [rank, outcome] of outcomes.entries()) {
          assert.equal(outcome.kind, 'error', `rank ${rank}: ${JSON.stringify(outcome)}`);
          if (outcome.kind !== 'error') return;
          assert.equal(outcome.name, 'CommunicatorError', outcome.message);
          assert.match(outcome.message, /disagree/);
          assert.match(outcome.message, /all_reduce of 400 bytes/);
          assert.match(outcome.message, theirs);
        }
      });
    }
  });
}
