/** How operations are named in messages. No logic of communication. */
import type { OperationName, RankStatus } from './status-board.js';

/** An operation, for messages. */
export interface Operation {
  readonly name: OperationName;
  readonly bytes: number;
  /** 0 for send and receive, which are not collectives. */
  readonly sequence: number;
  /** The partner of send and receive. */
  readonly partner?: number;
  /** In words, for waits that are none of the named operations. */
  readonly text?: string;
}

/** 'all_reduce of 4,096 bytes (collective 12, step 5)', 'send of 8 bytes to rank 1' */
export function describeOperation({ name, bytes, sequence, partner, text }: Operation, step = -1): string {
  if (text !== undefined) return step >= 0 ? `${text} (step ${step})` : text;
  if (partner !== undefined) {
    const where = step >= 0 ? ` (step ${step})` : '';
    return `${name} of ${bytes.toLocaleString('en')} bytes ${name === 'send' ? 'to' : 'from'} rank ${partner}${where}`;
  }
  if (sequence === 0) return 'no collective yet';
  const details = [`collective ${sequence}`, ...(step >= 0 ? [`step ${step}`] : [])].join(', ');
  return `${name}${name === 'barrier' ? '' : ` of ${bytes.toLocaleString('en')} bytes`} (${details})`;
}

/** Where a rank is by its own account: 'was waiting in …' or 'was computing after …'. */
export function describeWhere({ operation, bytes, sequence, step, state }: RankStatus): string {
  const last = describeOperation({ name: operation, bytes, sequence }, step);
  return `${state === 'waiting' ? 'was waiting in' : 'was computing after'} ${last}`;
}
