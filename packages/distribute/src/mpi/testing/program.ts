/**
 * For tests: what runs in every rank. The first argument names the part; a part that finds something wrong throws.
 *
 * Expected values are closed forms of rank and index, computed in float64 where rounding matters.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Buffer, Work } from '../../communicator/communicator.js';
import { plainKernels } from '../../simd/plain-kernels.js';
import type { MpiAlgorithm } from '../all-reduce/start.js';
import { type MpiAllReduceOptions, MpiCommunicator } from '../mpi-communicator.js';
import { MpiGroup, type MpiOptions } from '../mpi-group.js';
import { loadMpi } from '../native/library.js';
import { OpenMpi } from '../native/open-mpi.js';
import { TRANSPORTS_VARIABLE } from '../native/ports.js';
import { playScenes, reportResult } from './result.js';

const [, , part = '', ...rest] = process.argv;

/** Reproducible values in [−1, 1) of a rank. */
function valuesOf(rank: number, length: number): Float32Array {
  let state = (rank + 1) * 0x9e3779b1;
  return new Float32Array(length).map(() => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  });
}

const LENGTHS = [1, 2, 3, 17, 1000, 16_411, 100_003, 1_000_003];

function open(options: MpiOptions = {}): MpiCommunicator {
  return MpiCommunicator.open(options);
}

/** Other collectives while the works go on, then their end, the last first. */
function finishOutOfOrder(communicator: MpiCommunicator, works: Work[]): void {
  const { rank, size } = communicator;
  communicator.barrier();
  const small = new Int32Array([rank]);
  communicator.allReduce(small);
  assert.equal(small[0], (size * (size - 1)) / 2);
  for (const work of works.reverse()) work.wait();
  assert.ok(works.every((work) => work.test()));
}

/** Sums in rank order with float32 rounding after every addition: what 'rank_order' promises, bit for bit. */
function sumInRankOrder(size: number, length: number): Float32Array {
  const sum = valuesOf(0, length);
  for (let rank = 1; rank < size; rank++) {
    const values = valuesOf(rank, length);
    for (let i = 0; i < length; i++) sum[i] = (sum[i] as number) + (values[i] as number);
  }
  return sum;
}

/** Ports on which this process accepts TCP connections, from the kernel's tables. */
function listeningPorts(): number[] {
  const sockets = new Set(
    readdirSync('/proc/self/fd').map((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
      } catch {
        return undefined;
      }
    }),
  );
  const LISTEN = '0A';
  const ports = ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/self/net/${table}`, 'utf8')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[3] === LISTEN && sockets.has(fields[9]))
      .map((fields) => Number.parseInt((fields[1] as string).split(':')[1] as string, 16)),
  );
  return [...new Set(ports)];
}

/** A variable as C sees it. */
function nativeEnvironment(name: string): string | null {
  return loadMpi().library.func('str getenv(str name)')(name) as string | null;
}

/** Every element is off by `most` at the most. A message is made for the first that is not, and for no other. */
function assertNear(found: Float32Array, expected: Float32Array, most: number, what: string): void {
  const differenceAt = (i: number) => Math.abs((found[i] as number) - (expected[i] as number));
  const wrong = found.findIndex((_, i) => !(differenceAt(i) <= most));
  assert.equal(wrong, -1, `${what}, element ${wrong}: off by ${differenceAt(wrong)}`);
}

/** Those that leave the communicator as whole as they found it: one job can play them all. */
const scenes: Record<string, (communicator: MpiCommunicator) => void> = {
  algorithms(communicator) {
    const { rank, size } = communicator;
    for (const length of LENGTHS) {
      const exact = sumInRankOrder(size, length);
      for (const algorithm of ['rank_order', 'ring', 'open_mpi'] satisfies MpiAlgorithm[]) {
        const buffer = valuesOf(rank, length);
        communicator.allReduce(buffer, 'sum', { algorithm });
        if (algorithm === 'rank_order') assert.deepEqual(buffer, exact, `rank_order, ${length} elements`);
        assertNear(buffer, exact, size * 2 ** -22, `${algorithm}, ${length} elements`);
        // Bit-identical on all ranks: maximum and minimum of the bits over the ranks are the same.
        const bits = new Int32Array(buffer.buffer.slice(0));
        const least = bits.slice();
        communicator.allReduce(bits, 'max');
        communicator.allReduce(least, 'min');
        assert.deepEqual(bits, least, `${algorithm}, ${length} elements: ranks differ`);
      }
    }
  },

  types(communicator) {
    const { rank, size } = communicator;
    const triangle = (size * (size + 1)) / 2;
    const kinds: [Buffer, (value: number) => number | bigint][] = [
      [new Float64Array(20_001).fill(rank + 1), Number],
      [new Int32Array(20_001).fill(rank + 1), Number],
      [new Uint8Array(90_001).fill(rank + 1), Number],
      [new BigInt64Array(20_001).fill(BigInt(rank + 1)), BigInt],
    ];
    for (const algorithm of ['rank_order', 'ring', 'open_mpi'] satisfies MpiAlgorithm[]) {
      for (const [buffer, cast] of kinds) {
        for (const [op, expected] of [
          ['sum', triangle],
          ['max', size],
          ['min', 1],
        ] as const) {
          const copy = buffer.slice() as Buffer;
          communicator.allReduce(copy, op, { algorithm });
          const wanted = cast(expected);
          const wrong = (copy as Float64Array).findIndex((value) => value !== wanted);
          assert.equal(
            wrong,
            -1,
            `${op} of ${buffer.constructor.name}, ${algorithm}: element ${wrong} is ${copy[wrong]}`,
          );
        }
      }
    }
  },

  bf16(communicator) {
    const { rank, size } = communicator;
    for (const length of [1, 1000, 300_007]) {
      const buffer = valuesOf(rank, length);
      communicator.allReduce(buffer, 'sum', { wire: 'bf16' });
      const all = Array.from({ length: size }, (_, other) => valuesOf(other, length));
      for (let i = 0; i < length; i++) {
        const sum = all.reduce((total, values) => total + (values[i] as number), 0);
        const size1 = all.reduce((total, values) => total + Math.abs(values[i] as number), 0);
        // Each contribution and the result are rounded once, each by at most 2⁻⁸ of itself.
        const bound = (size1 + Math.abs(sum)) * 2 ** -8 * 1.01;
        if (!(Math.abs((buffer[i] as number) - sum) <= bound))
          assert.fail(`element ${i}: ${buffer[i]} instead of ${sum}`);
      }
      const halves = new Uint16Array(length);
      const again = new Float32Array(length);
      plainKernels.toBf16(halves, buffer);
      plainKernels.fromBf16(again, halves);
      if (size > 1) assert.deepEqual(buffer, again, 'the result is a bfloat16 number');
      const bits = new Int32Array(buffer.buffer.slice(0));
      const least = bits.slice();
      communicator.allReduce(bits, 'max');
      communicator.allReduce(least, 'min');
      assert.deepEqual(bits, least, 'ranks differ');
    }
  },

  /** Several all-reduces at once, in pieces, finished out of order; other collectives in between. */
  asynchronous(communicator) {
    const { rank, size } = communicator;
    const whole = valuesOf(rank, 500_009);
    const expected = sumInRankOrder(size, whole.length);
    const cuts = [0, 10, 70_000, 70_001, 300_000, whole.length];
    const works = cuts.slice(1).map((end, i) => communicator.allReduceAsync(whole.subarray(cuts[i], end)));
    finishOutOfOrder(communicator, works);
    assert.deepEqual(whole, expected, 'the same bits for any number of packs');
  },

  /** The thread beside: every algorithm, several at once, with collectives of this thread in between. */
  background(communicator) {
    const { rank, size } = communicator;
    const length = 500_009;
    const exact = sumInRankOrder(size, length);
    const cuts = [0, 10, 70_000, 70_001, 300_000, length];
    const parts = (buffer: Float32Array) => cuts.slice(1).map((end, i) => buffer.subarray(cuts[i], end));
    // An owner's own values are not rounded on their way, so the result depends on the cuts; the part 'bf16' checks it.
    const rounded = valuesOf(rank, length);
    for (const part of parts(rounded)) communicator.allReduce(part, 'sum', { wire: 'bf16' });
    const kinds: [MpiAllReduceOptions, Float32Array, number][] = [
      [{ algorithm: 'rank_order' }, exact, 0],
      [{ algorithm: 'ring' }, exact, size * 2 ** -22],
      [{ wire: 'bf16' }, rounded, 0],
      // Not in the background, all the same right.
      [{ algorithm: 'open_mpi' }, exact, size * 2 ** -22],
    ];
    const buffers = kinds.map(() => {
      const shared = new Float32Array(new SharedArrayBuffer(4 * length));
      shared.set(valuesOf(rank, length));
      return shared;
    });
    const works = kinds.flatMap(([options], kind) =>
      parts(buffers[kind] as Float32Array).map((part) =>
        communicator.allReduceAsync(part, 'sum', { ...options, background: true }),
      ),
    );
    finishOutOfOrder(communicator, works);
    for (const [kind, [options, expected, most]] of kinds.entries()) {
      assertNear(buffers[kind] as Float32Array, expected, most, JSON.stringify(options));
    }
  },

  /** More all-reduces at once than Open MPI can have messages under way, small ones and large ones, on either thread. */
  many(communicator) {
    for (const [count, length, background] of [
      [6000, 5, false],
      [900, 40_000, false],
      [6000, 5, true],
      [900, 40_000, true],
    ] as const) {
      const buffer = new Float32Array(new SharedArrayBuffer(4 * length * count)).fill(communicator.rank + 1);
      const works = Array.from({ length: count }, (_, i) =>
        communicator.allReduceAsync(buffer.subarray(i * length, (i + 1) * length), 'sum', { background }),
      );
      for (const work of works) work.wait();
      const sum = (communicator.size * (communicator.size + 1)) / 2;
      assert.ok(
        buffer.every((value) => value === sum),
        `${count} of ${length} elements`,
      );
    }
  },

  /** Nobody calls this communicator while the thread beside works. */
  alone(communicator) {
    const { rank, size } = communicator;
    const shared = new Float32Array(new SharedArrayBuffer(4 * 1_000_003));
    shared.set(valuesOf(rank, shared.length));
    const expected = sumInRankOrder(size, shared.length);
    const work = communicator.allReduceAsync(shared, 'sum', { background: true });
    // Seen in the memory itself: the last element is the sum's in the end, whoever asks.
    const end = Date.now() + 20_000;
    const nap = new Int32Array(new SharedArrayBuffer(4));
    const isThere = () => shared.every((value, i) => value === expected[i]);
    while (!isThere()) {
      assert.ok(Date.now() < end, 'the sum never came');
      Atomics.wait(nap, 0, 0, 20);
    }
    work.wait();
  },

  /** `test()` alone, without `wait`, has to carry an operation to its end. */
  test(communicator) {
    const buffer = valuesOf(communicator.rank, 200_000);
    const work = communicator.allReduceAsync(buffer);
    const end = Date.now() + 20_000;
    while (!work.test()) assert.ok(Date.now() < end, 'test() never became true');
    assert.deepEqual(buffer, sumInRankOrder(communicator.size, buffer.length));
  },
};

const parts: Record<string, () => void | Promise<void>> = {
  /** Scenes one after another, with one communicator. */
  async scenes() {
    const communicator = open();
    await playScenes(async (args) =>
      (scenes[(args as { scene: string }).scene] as (typeof scenes)[string])(communicator),
    );
    communicator.close();
  },

  /** The scene 'asynchronous' in a job of its own. */
  asynchronous() {
    const communicator = open();
    scenes.asynchronous?.(communicator);
    communicator.close();
  },

  /** Arguments: how, victim, step. */
  fault() {
    const [how, victim, at] = [rest[0], Number(rest[1]), Number(rest[2])];
    if (how === 'start-kill' && Number(process.env.OMPI_COMM_WORLD_RANK) === victim)
      process.kill(process.pid, 'SIGKILL');
    if (how === 'start-stop' && Number(process.env.OMPI_COMM_WORLD_RANK) === victim)
      process.kill(process.pid, 'SIGSTOP');
    // A machine that is busy starts three processes slowly, and lets one wait; that must not be taken for the fault.
    const startSeconds = how === 'start-stop' ? 3 : 30;
    const communicator = open({ silenceSeconds: 4, timeoutSeconds: 8, warningSeconds: 1, startSeconds });
    // What the communication thread carries lasts long enough for a rank to end in its middle.
    const background = how === 'background';
    const buffer = new Float32Array(new SharedArrayBuffer(4 * (background ? 4_000_000 : 200_000)));
    const nap = (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    for (let step = 1; step <= 400; step++) {
      communicator.setStep(step);
      nap(2);
      if (step === at && communicator.rank === victim) {
        if (how === 'kill') process.kill(process.pid, 'SIGKILL');
        if (how === 'stop') process.kill(process.pid, 'SIGSTOP');
        if (how === 'throw') throw new Error('a mistake of its own');
        if (how === 'abort') communicator.abort('out of paper');
        if (how === 'late') nap(3_000);
        if (how === 'hang') nap(60_000);
        if (how === 'other') communicator.broadcast(buffer, 0);
        // Issued, as all others know before it stops: it is not behind by its number, but nobody else can go on.
        if (how === 'stop-issued') {
          communicator.allReduceAsync(buffer);
          nap(500);
          process.kill(process.pid, 'SIGSTOP');
        }
        // In the middle: its first part has been sent, and it ends before it has summed anything.
        if (how === 'middle' || background) {
          communicator.allReduceAsync(buffer, 'sum', { background });
          if (background) nap(5);
          process.kill(process.pid, 'SIGKILL');
        }
      }
      communicator.allReduceAsync(buffer, 'sum', { background }).wait();
    }
    communicator.close();
    console.log('all steps done');
  },

  /** Something in the background, while the thread that carries it may be failing (thread-fault.ts). */
  thread() {
    const communicator = open({ silenceSeconds: 4, timeoutSeconds: 30 });
    communicator.setStep(1);
    const buffer = new Float32Array(new SharedArrayBuffer(4 * 200_000));
    communicator.allReduceAsync(buffer, 'sum', { background: true }).wait();
    communicator.close();
    console.log('all steps done');
  },

  /**
   * Rank 1 closes, without the communicator's last barrier. The others (argument: how) want one more sum, or work on, or break, or
   * see rank 1 killed, which is tolerated then.
   */
  early() {
    const tolerated = rest[0]?.startsWith('tolerated') ? [1] : [];
    const group = MpiGroup.open({ silenceSeconds: 10, timeoutSeconds: rest[0] === 'hang' ? 2 : 20, tolerated });
    const communicator = new MpiCommunicator(group.handle);
    communicator.setStep(7);
    communicator.barrier();
    const nap = (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    if (group.rank !== 1) {
      if (rest[0] === 'sum') communicator.allReduce(new Float32Array(1000));
      if (rest[0] === 'work') nap(1500);
      if (rest[0] === 'hang') nap(8000);
      if (rest[0] === 'tolerated') {
        // It is closed by then, and nobody else is.
        nap(500);
        if (group.rank === 0) process.kill((group.handle.identities[1] as { pid: number }).pid, 'SIGKILL');
        nap(group.rank === 0 ? 0 : 1000);
      }
      // Killed by the last one to close, so that it is through by all that anybody has heard.
      if (rest[0] === 'tolerated-last' && group.rank === 0) {
        nap(1000);
        process.kill((group.handle.identities[1] as { pid: number }).pid, 'SIGKILL');
      }
      if (group.rank === 0 && rest[0] === 'kill') {
        nap(500);
        process.kill(process.pid, 'SIGKILL');
      }
    }
    group.close();
    console.log(`left ${performance.timeOrigin + performance.now()}`);
    console.log(`in order: ${new OpenMpi().isFinalized}`);
  },

  /** Rank 2 is lost, and may be. Rank 1 leaves, and rank 0 still waits for something of its own when rank 1's process is gone. */
  leave() {
    const group = MpiGroup.open({ tolerated: [2], silenceSeconds: 10 });
    const communicator = new MpiCommunicator(group.handle);
    if (group.rank === 2) process.kill(process.pid, 'SIGKILL');
    communicator.waitUntil(() => communicator.isLost(2), 'the loss of rank 2');
    if (group.rank === 0) {
      const { pid } = group.handle.identities[1] as { pid: number };
      const isGone = () => {
        try {
          process.kill(pid, 0);
          return false;
        } catch {
          return true;
        }
      };
      let gone = Number.POSITIVE_INFINITY;
      // Half a second: the watch thread looks every 50 ms.
      communicator.waitUntil(() => {
        if (gone === Number.POSITIVE_INFINITY && isGone()) gone = performance.now();
        return performance.now() > gone + 500;
      }, 'a last reply');
      console.log('waited to the end');
    }
    group.close();
  },

  /** Rank 1 is killed while rank 0 is inside a call that takes longer than the launcher waits. */
  longCall() {
    const communicator = open();
    communicator.setStep(3);
    communicator.barrier();
    if (communicator.rank === 1) process.kill(process.pid, 'SIGKILL');
    const end = Date.now() + 5000;
    while (Date.now() < end);
    communicator.barrier();
    communicator.close();
  },

  /** On which TCP ports the rank listens, while the job runs. */
  ports() {
    const communicator = open();
    communicator.barrier();
    reportResult({ ports: listeningPorts(), transports: nativeEnvironment(TRANSPORTS_VARIABLE) });
    communicator.barrier();
    communicator.close();
  },

  /** A stranger connects to rank 1 (argument: to 'all'), sends less than Open MPI's handshake, and stays. */
  stray() {
    const communicator = open({ silenceSeconds: 3, timeoutSeconds: 60, warningSeconds: 60 });
    if (rest[0] === 'all' || communicator.rank === 1) {
      const ports = listeningPorts();
      assert.ok(ports.length > 0, 'this rank listens on no port');
      const script = `for (const port of ${JSON.stringify(ports)}) require('net').connect(port, '127.0.0.1').on('error', () => {}).write('GET / HTTP/1.0\\r\\n\\r\\n'); setTimeout(() => process.exit(), 20000);`;
      // Its output is nobody's: mpirun would wait for the end of it.
      const child = spawn(process.execPath, ['-e', script], { stdio: 'ignore', detached: true });
      console.log(`stranger ${child.pid}`);
    }
    const buffer = new Float32Array(new SharedArrayBuffer(4 * 200_000));
    for (let step = 1; step <= 20_000; step++) {
      communicator.setStep(step);
      communicator.allReduce(buffer);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
    }
    communicator.close();
  },

  debug() {
    const communicator = open({ debug: true });
    communicator.allReduce(new Float32Array(10));
    if (communicator.rank === 1) communicator.allReduce(new Float32Array(12));
    else communicator.allReduce(new Float32Array(10));
  },
};

const run = parts[part];
if (!run) throw new Error(`No such part: '${part}'.`);
await run();
