/**
 * What one rank does in the shared cases of cross-device-ops.cases.ts. Functions cannot cross threads, so a scene has a name,
 * gets JSON, and returns JSON. Not part of the package's interface.
 */
import type { Communicator } from '../../communicator/communicator.js';
import type { SharedMemoryCommunicator } from '../../communicator/shared-memory-communicator.js';
import { createCrossDeviceOps } from '../create.js';

type Op = 'SUM' | 'MEAN';

/** Element `i` of `rank`'s buffer: fractions of 7, so that sums round, large and small ones mixed, so that order matters. */
export function valueAt(rank: number, i: number): number {
  return Math.fround(((((i * 31 + rank * 17) % 23) - 11) / 7) * 2 ** ((i * 7 + rank * 5) % 19));
}

/** FNV-1a of the bytes: equal bits give equal numbers. */
export function hashOf(buffer: Float32Array): number {
  let state = 0x811c9dc5;
  for (const byte of new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)) {
    state = Math.imul(state ^ byte, 0x01000193);
  }
  return state;
}

function fill(buffer: Float32Array, rank: number, from = 0): Float32Array {
  for (let i = 0; i < buffer.length; i++) buffer[i] = valueAt(rank, from + i);
  return buffer;
}

/** First element that is not what a plain f64 loop over the ranks says, or null. */
function firstDifference(buffer: Float32Array, size: number, op: Op, from = 0): string | null {
  for (let i = 0; i < buffer.length; i++) {
    let sum = 0;
    let magnitude = 0;
    for (let rank = 0; rank < size; rank++) {
      sum += valueAt(rank, from + i);
      magnitude += Math.abs(valueAt(rank, from + i));
    }
    const want = op === 'MEAN' ? sum / size : sum;
    // One rounding of at most half a unit for each addition, and one for the division.
    const tolerance = size * 2 ** -24 * magnitude;
    if (!(Math.abs((buffer[i] as number) - want) <= tolerance)) {
      return `element ${i} of ${buffer.length}: ${buffer[i]}, not ${want}`;
    }
  }
  return null;
}

type Scene = (communicator: Communicator, args: never) => unknown;

const SCENES: Record<string, Scene> = {
  /** Sums of every length in every number of packs, with buffers in flat memory, outside it, and mixed. */
  allReduce(
    communicator,
    { algorithm, lengths, packs }: { algorithm: string; lengths: number[]; packs: number[] },
  ): { differences: string[]; hashes: Record<string, number[]> } {
    const group = communicator as SharedMemoryCommunicator;
    const { rank, size } = group;
    const flat = group.allocateSymmetric(Math.max(...lengths))[rank] as Float32Array;
    const differences: string[] = [];
    const hashes: Record<string, number[]> = {};
    for (const length of lengths) {
      for (const numPacks of packs) {
        const ops = createCrossDeviceOps(algorithm, numPacks);
        for (const where of ['flat', 'private', 'mixed'] as const) {
          const isFlat = where === 'flat' || (where === 'mixed' && rank % 2 === 0);
          const buffer = fill(isFlat ? flat.subarray(0, length) : new Float32Array(length), rank);
          // Whoever is through first must not fill a buffer that others still read.
          group.barrier();
          ops.allReduce(group, buffer);
          const difference = firstDifference(buffer, size, 'SUM');
          if (difference) differences.push(`${numPacks} packs, ${where}: ${difference}`);
          hashes[length] = [...(hashes[length] ?? []), hashOf(buffer)];
        }
      }
    }
    return { differences, hashes };
  },

  /** reduce to all and to some, batchReduce, broadcast. */
  contract(communicator, { algorithm, numPacks }: { algorithm: string; numPacks: number }): string[] {
    const { rank, size } = communicator;
    const ops = createCrossDeviceOps(algorithm, numPacks);
    const found: (string | null)[] = [];
    const note = (what: string, difference: string | null) => found.push(difference && `${what}: ${difference}`);
    const all = Array.from({ length: size }, (_, i) => i);
    for (const op of ['SUM', 'MEAN'] as const) {
      for (const destinations of [undefined, all, [0], [size - 1], all.slice(1), [0, 0]]) {
        if (destinations?.length === 0) continue;
        const value = fill(new Float32Array(13), rank);
        ops.reduce(communicator, op, value, destinations);
        if (destinations === undefined || destinations.includes(rank)) {
          note(`${op} to ${destinations}`, firstDifference(value, size, op));
        } else if (value.some((v, i) => v !== valueAt(rank, i))) {
          note(`${op} to ${destinations}`, 'changed a rank that is no destination');
        }
      }
      const values = [0, 1, 3, 7, 101].map((length, i) => fill(new Float32Array(length), rank, 50 * i));
      ops.batchReduce(communicator, op, values);
      for (const [i, value] of values.entries()) note(`batch ${op} ${i}`, firstDifference(value, size, op, 50 * i));
      ops.batchReduce(communicator, op, []);
    }
    for (const source of all) {
      const value = fill(new Float32Array(7), rank);
      ops.broadcast(communicator, value, source);
      if (value.some((v, i) => v !== valueAt(source, i))) note(`broadcast from ${source}`, `${value}`);
    }
    return found.filter((difference) => difference !== null);
  },

  /** Upstream's messages for calls that cannot be right; every rank makes them, none communicates. */
  refusals(communicator, { algorithm }: { algorithm: string }): string[] {
    const ops = createCrossDeviceOps(algorithm, 1);
    const value = new Float32Array(3);
    const calls = [
      () => ops.reduce(communicator, 'MAX' as never, value),
      () => ops.batchReduce(communicator, 'MIN' as never, [value]),
      () => ops.reduce(communicator, 'SUM', value, []),
      () => ops.reduce(communicator, 'SUM', value, [communicator.size]),
    ];
    return calls.map((call) => {
      try {
        call();
        return 'nothing was thrown';
      } catch (error) {
        return (error as Error).message;
      }
    });
  },

  /** Replicas that hold different numbers of elements. */
  different(communicator, { algorithm }: { algorithm: string }): void {
    createCrossDeviceOps(algorithm, 2).allReduce(communicator, new Float32Array(communicator.rank === 1 ? 4097 : 4096));
  },
};

/** Runs a scene by name. */
export function runScene(communicator: Communicator, scene: string, args: unknown): unknown {
  const run = SCENES[scene];
  if (!run) throw new Error(`No scene '${scene}'.`);
  return run(communicator, (args ?? {}) as never);
}
