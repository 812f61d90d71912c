/**
 * What one rank does in the shared cases of communicator.cases.ts. Functions cannot cross threads or processes, so a scene
 * has a name, gets JSON, and returns JSON. Not part of the package's interface.
 */
import type { Buffer, Communicator, CommunicatorReduceOp } from '../communicator.js';
import type { SharedMemoryCommunicator } from '../shared-memory-communicator.js';

export type ElementKind = 'float32' | 'float64' | 'int32' | 'uint8' | 'int64';

/** Values repeat after so many. */
const PERIOD = 23;

/** Value `i` of `rank`'s buffer: fractions of 7 in float types, so that sums round; small whole numbers otherwise. */
export function valueAt(kind: ElementKind, rank: number, i: number): number {
  const whole = ((i * 31 + rank * 17) % PERIOD) - (kind === 'uint8' ? 0 : 11);
  return kind === 'float32' ? Math.fround(whole / 7) : kind === 'float64' ? whole / 7 : whole;
}

function fill(buffer: Buffer, kind: ElementKind, rank: number): void {
  for (let i = 0; i < buffer.length; i++) {
    if (buffer instanceof BigInt64Array) buffer[i] = BigInt(valueAt(kind, rank, i));
    else buffer[i] = valueAt(kind, rank, i);
  }
}

function create(kind: ElementKind, length: number, rank: number): Buffer {
  const types = {
    float32: Float32Array,
    float64: Float64Array,
    int32: Int32Array,
    uint8: Uint8Array,
    int64: BigInt64Array,
  };
  const buffer = new types[kind](length);
  fill(buffer, kind, rank);
  return buffer;
}

/** A plain loop in f64, rank by rank. */
function expected(kind: ElementKind, size: number, i: number, op: CommunicatorReduceOp): number {
  const values = Array.from({ length: size }, (_, rank) => valueAt(kind, rank, i));
  if (op === 'max') return Math.max(...values);
  if (op === 'min') return Math.min(...values);
  const sum = values.reduce((total, value) => total + value, 0);
  return kind === 'uint8' ? sum % 256 : sum;
}

/** First element that is not what the plain loop says, or null. */
function firstDifference(buffer: Buffer, kind: ElementKind, size: number, op: CommunicatorReduceOp): string | null {
  // One rounding per addition, of a sum below 2·size.
  const unit = kind === 'float32' ? 2 ** -24 : kind === 'float64' ? 2 ** -53 : 0;
  const tolerance = unit * 2 * size * size;
  const wanted = Array.from({ length: PERIOD }, (_, i) => expected(kind, size, i, op));
  for (let i = 0; i < buffer.length; i++) {
    const want = wanted[i % PERIOD] as number;
    const got = Number(buffer[i]);
    if (!(Math.abs(got - want) <= tolerance)) return `${op} of ${kind}[${buffer.length}] at ${i}: ${got}, not ${want}`;
  }
  return null;
}

/** FNV-1a of the bytes: equal bits give equal numbers. */
function hash(buffer: Buffer): number {
  let state = 0x811c9dc5;
  for (const byte of new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)) {
    state = Math.imul(state ^ byte, 0x01000193);
  }
  return state;
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

type Scene = (communicator: Communicator, args: never) => unknown;

const SCENES: Record<string, Scene> = {
  /** All-reduces of every kind; differences from the plain loop, and hashes to compare between ranks. */
  allReduce(communicator, { lengths, large }: { lengths: number[]; large: number }) {
    const differences: string[] = [];
    const hashes: number[] = [];
    const run = (buffer: Buffer, kind: ElementKind, op: CommunicatorReduceOp) => {
      communicator.allReduce(buffer, op);
      const difference = firstDifference(buffer, kind, communicator.size, op);
      if (difference) differences.push(difference);
      hashes.push(hash(buffer));
    };
    const kinds: ElementKind[] = ['float32', 'float64', 'int32', 'uint8', 'int64'];
    for (const length of lengths) {
      for (const kind of kinds) {
        for (const op of ['sum', 'max', 'min'] as const) run(create(kind, length, communicator.rank), kind, op);
      }
    }
    for (const kind of ['float32', 'float64'] as const) run(create(kind, large, communicator.rank), kind, 'sum');
    // A view that begins in the middle of its buffer.
    run(create('float32', large + 1, communicator.rank).subarray(0, large) as Buffer, 'float32', 'sum');
    return { differences, hashes };
  },

  /** Float32 sums whose buffers are in flat memory, on all ranks or on some. */
  symmetric(communicator, { lengths }: { lengths: number[] }) {
    const shared = communicator as SharedMemoryCommunicator;
    const differences: string[] = [];
    const hashes: number[] = [];
    for (const length of lengths) {
      for (const where of ['all', 'some', 'one place'] as const) {
        const own = shared.allocateSymmetric(length + 3)[communicator.rank]!;
        const isPrivate = where === 'some' && communicator.rank % 2 === 1;
        const buffer = isPrivate
          ? new Float32Array(length)
          : own.subarray(where === 'one place' ? 3 : 0, where === 'one place' ? length + 3 : length);
        fill(buffer, 'float32', communicator.rank);
        communicator.allReduce(buffer);
        const difference = firstDifference(buffer, 'float32', communicator.size, 'sum');
        if (difference) differences.push(`${where}: ${difference}`);
        hashes.push(hash(buffer));
        if (where === 'one place' && own.subarray(0, 3).some((value) => value !== 0)) differences.push('wrote before');
        if (where === 'all' && own.subarray(length).some((value) => value !== 0)) differences.push('wrote behind');
      }
    }
    return { differences, hashes };
  },

  /** Several all-reduces under way at once, waited for in reverse, one of them polled; other collectives in between. */
  asynchronous(communicator, { lengths }: { lengths: number[] }) {
    const buffers = lengths.map((length) => create('float32', length, communicator.rank));
    const works = buffers.map((buffer) => communicator.allReduceAsync(buffer));
    const before = create('int32', 5, communicator.rank);
    communicator.allReduce(before);
    const last = create('float64', 9, communicator.rank);
    const polled = communicator.allReduceAsync(last);
    let polls = 0;
    while (!polled.test()) {
      if (polls++ > 100_000) return { differences: ['test() never became true'] };
      sleep(0.1);
    }
    for (const work of works.reverse()) work.wait();
    const isStillDone = works.every((work) => work.test());
    const found = [
      ...buffers.map((buffer) => firstDifference(buffer, 'float32', communicator.size, 'sum')),
      firstDifference(before, 'int32', communicator.size, 'sum'),
      firstDifference(last, 'float64', communicator.size, 'sum'),
      isStillDone ? null : 'test() after wait() was false',
    ];
    return { differences: found.filter(Boolean) };
  },

  broadcast(communicator, { lengths }: { lengths: number[] }) {
    const differences: string[] = [];
    for (const length of lengths) {
      for (let root = 0; root < communicator.size; root++) {
        const buffer = create('float32', length, communicator.rank);
        communicator.broadcast(buffer, root);
        for (let i = 0; i < length; i++) {
          if (buffer[i] === valueAt('float32', root, i)) continue;
          differences.push(`broadcast of ${length} from ${root} at ${i}: ${buffer[i]}`);
          break;
        }
      }
    }
    return { differences };
  },

  allGather(communicator, { lengths }: { lengths: number[] }) {
    const differences: string[] = [];
    for (const length of lengths) {
      const all = new Int32Array(length * communicator.size);
      communicator.allGather(create('int32', length, communicator.rank), all);
      const wrong = all.findIndex((value, i) => value !== valueAt('int32', Math.floor(i / length), i % length));
      if (wrong >= 0) differences.push(`allGather of ${length} at ${wrong}: ${all[wrong]}`);
    }
    return { differences };
  },

  /** When each rank came to the barrier, and when it was let through. */
  barrier(communicator) {
    const rounds: { came: number; left: number }[] = [];
    for (let round = 0; round < 3; round++) {
      sleep(((communicator.rank + round) % communicator.size) * 10);
      const came = Date.now();
      communicator.barrier();
      rounds.push({ came, left: Date.now() });
    }
    return rounds;
  },

  /** Around a ring, in order and with tags asked for in another order; messages from empty to several parts long. */
  messages(communicator, { lengths }: { lengths: number[] }) {
    const { rank, size } = communicator;
    if (size === 1) return { differences: [] };
    const differences: string[] = [];
    const next = (rank + 1) % size;
    const previous = (rank + size - 1) % size;
    const sendAll = () => {
      for (const length of lengths) communicator.send(create('float32', length, rank), next);
      communicator.send(Int32Array.of(rank, 1), next, 1);
      communicator.send(Int32Array.of(rank, 2), next, 2);
    };
    const receiveAll = () => {
      for (const length of lengths) {
        const buffer = new Float32Array(length);
        communicator.receive(buffer, previous);
        const wrong = buffer.findIndex((value, i) => value !== valueAt('float32', previous, i));
        if (wrong >= 0) differences.push(`message of ${length} at ${wrong}: ${buffer[wrong]}`);
      }
      for (const tag of [2, 1]) {
        const pair = new Int32Array(2);
        communicator.receive(pair, previous, tag);
        if (pair[0] !== previous || pair[1] !== tag) differences.push(`tag ${tag} from ${previous}: ${pair}`);
      }
    };
    // Messages may wait for their receiver, so the first rank of the ring breaks the circle.
    if (rank === 0) {
      sendAll();
      receiveAll();
    } else {
      receiveAll();
      sendAll();
    }
    return { differences };
  },

  /** Some good collectives, then `culprit` does `fault` while the others go on. */
  fault(communicator, { culprit, fault }: { culprit: number; fault: string }) {
    for (let i = 0; i < 3; i++) communicator.allReduce(create('float32', 100, communicator.rank));
    if (communicator.rank === culprit) {
      switch (fault) {
        case 'throw':
          throw new RangeError('the dog ate my gradients');
        case 'abort':
          communicator.abort('the dog ate my gradients');
          break;
        case 'exit':
          process.exit(3);
          break;
        case 'freeze':
          sleep(60_000);
          break;
        case 'close':
          communicator.close();
          return 'closed';
        case 'other operation':
          communicator.broadcast(new Float32Array(100), 0);
          break;
        case 'other size':
          communicator.allReduce(create('float32', 99, communicator.rank));
          break;
        default:
          throw new Error(`No fault ${fault}.`);
      }
    }
    communicator.allReduce(create('float32', 100, communicator.rank));
    communicator.barrier();
    return 'survived';
  },

  /** After an abort, the next call throws as well, whatever it is. */
  afterAbort(communicator) {
    if (communicator.rank === 0) communicator.abort('enough');
    const messages: string[] = [];
    const calls = [
      () => communicator.barrier(),
      () => communicator.allReduce(new Float32Array(1)),
      () => communicator.broadcast(new Float32Array(1), 0),
      () => communicator.allGather(new Float32Array(1), new Float32Array(communicator.size)),
      () => communicator.allReduceAsync(new Float32Array(1)).wait(),
    ];
    for (const call of calls) {
      try {
        call();
        messages.push('nothing was thrown');
      } catch (error) {
        messages.push(`${(error as Error).name}: ${(error as Error).message}`);
      }
    }
    return messages;
  },
};

/** Runs a scene by name. */
export function runScene(communicator: Communicator, scene: string, args: unknown): unknown {
  const run = SCENES[scene];
  if (!run) throw new Error(`No scene '${scene}'.`);
  return run(communicator, (args ?? {}) as never);
}
