/** What a rank was asked to do, as the other ranks see it and as messages say it. No waiting, no data. */
import type { Buffer, CommunicatorReduceOp } from './communicator.js';

/** Operations, by the number under which ranks tell each other of them. */
export const OPERATION_NAMES = [
  'none',
  'all_reduce',
  'broadcast',
  'all_gather',
  'barrier',
  'share',
  'send',
  'receive',
] as const;
export type OperationName = (typeof OPERATION_NAMES)[number];

export const ELEMENT_TYPES = ['none', 'float32', 'float64', 'int32', 'uint8', 'int64'] as const;
export type ElementType = (typeof ELEMENT_TYPES)[number];

export const REDUCE_OPS: readonly (CommunicatorReduceOp | 'none')[] = ['none', 'sum', 'max', 'min'];

export interface Operation {
  readonly name: OperationName;
  /** Collectives so far, this one included; 0 for send and receive, which are between two ranks. */
  readonly sequence: number;
  readonly bytes: number;
  readonly type: ElementType;
  readonly reduceOp: CommunicatorReduceOp | 'none';
  /** Root of a broadcast, or the other side of send and receive; −1 otherwise. */
  readonly peer: number;
  /** Shared memory that the rank had allocated when it issued the operation. */
  readonly allocated: number;
}

/** 'all_reduce of 4,096 bytes (collective 12)' */
export function describeOperation({ name, sequence, bytes, peer }: Operation): string {
  const size = `of ${bytes.toLocaleString('en')} bytes`;
  if (name === 'none') return 'no collective yet';
  if (name === 'send') return `send ${size} to rank ${peer}`;
  if (name === 'receive') return `receive ${size} from rank ${peer}`;
  const number = `(collective ${sequence})`;
  if (name === 'barrier') return `barrier ${number}`;
  return `${name} ${size}${name === 'broadcast' ? ` from rank ${peer}` : ''} ${number}`;
}

/** As {@link describeOperation}, with all that may differ between ranks. */
export function describeInFull(operation: Operation): string {
  const { name, reduceOp, type } = operation;
  const details = [
    ...(name === 'all_reduce' ? [`${reduceOp} of ${type}`] : name === 'barrier' ? [] : [type]),
    `${operation.allocated.toLocaleString('en')} bytes allocated`,
  ];
  return `${describeOperation(operation)} [${details.join(', ')}]`;
}

/** Whether two ranks mean the same collective. */
export function isSameOperation(a: Operation, b: Operation): boolean {
  return (
    a.name === b.name &&
    a.sequence === b.sequence &&
    a.bytes === b.bytes &&
    a.type === b.type &&
    a.reduceOp === b.reduceOp &&
    a.peer === b.peer &&
    a.allocated === b.allocated
  );
}

export function elementType(buffer: Buffer): Exclude<ElementType, 'none'> {
  if (buffer instanceof Float32Array) return 'float32';
  if (buffer instanceof Float64Array) return 'float64';
  if (buffer instanceof Int32Array) return 'int32';
  if (buffer instanceof Uint8Array) return 'uint8';
  return 'int64';
}

/** 'rank 2', 'ranks 0 and 1', 'ranks 0, 1 and 2' */
export function listRanks(ranks: readonly number[]): string {
  if (ranks.length === 1) return `rank ${ranks[0]}`;
  return `ranks ${ranks.slice(0, -1).join(', ')} and ${ranks.at(-1)}`;
}

export function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
