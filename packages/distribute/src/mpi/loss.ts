/**
 * Whether a rank is lost, by what the status board says of it, and how that is put in words. It reads the board and changes
 * nothing.
 */

import type { MpiGroupHandle } from './group-handle.js';
import { describeRank } from './identity.js';
import { monotonicMs, type RankStatus, type StatusBoard } from './status-board.js';

/** A rank that will not come any more. */
export interface Loss {
  readonly rank: number;
  /** 'was lost: its process is gone' */
  readonly text: string;
}

/** Whether a rank has said that it is through: it joins no further collective. */
export function isThrough({ state }: Pick<RankStatus, 'state'>): boolean {
  return state === 'closed' || mayGo({ state });
}

/** Whether a rank's process may end, or fall silent, without being missed. One that is only 'closed' still waits, and is missed. */
export function mayGo({ state }: Pick<RankStatus, 'state'>): boolean {
  return state === 'leaving' || state === 'left';
}

/** Whether a rank's process is gone, cannot be reached, or has been silent for too long, and was not to go yet. */
export function isLost(board: StatusBoard, group: MpiGroupHandle, rank: number): boolean {
  const status = board.status(rank);
  if (rank === group.rank || mayGo(status)) return false;
  return status.gone > 0 || monotonicMs() - status.heard > group.silenceMs;
}

/** Ranks say something several times a second; one that has said nothing for so long is named as silent, in milliseconds. */
export const SILENT_MS = 2_000;

/** Whether nothing moves in a rank that others need: its process is stopped, or has said nothing for some time. It is not lost yet. */
export function isStill(board: StatusBoard, group: MpiGroupHandle, rank: number): boolean {
  const status = board.status(rank);
  if (rank === group.rank || isThrough(status) || group.tolerated.includes(rank)) return false;
  return status.process === 'stopped' || monotonicMs() - status.heard > SILENT_MS;
}

/** The first of `ranks` whose process is gone or cannot be reached, or else the one that has been silent for too long. */
export function findLoss(
  board: StatusBoard,
  group: MpiGroupHandle,
  ranks: readonly number[],
  now: number,
): Loss | null {
  const others = ranks.map((rank) => ({ rank, status: board.status(rank) }));
  const [gone] = others
    .filter(({ status }) => status.gone > 0)
    .sort((left, right) => left.status.gone - right.status.gone);
  if (gone) {
    const isUnreachable = gone.status.process === 'unreachable';
    const text = `was lost: ${isUnreachable ? 'it cannot be reached any more' : 'its process is gone'}`;
    return { rank: gone.rank, text };
  }
  const [silent] = others.sort((left, right) => left.status.heard - right.status.heard);
  const silence = silent ? now - silent.status.heard : 0;
  if (!silent || silence <= group.silenceMs) return null;
  const stopped = silent.status.process === 'stopped' ? ' (its process is stopped)' : '';
  return { rank: silent.rank, text: `was lost: it has not answered for ${inSeconds(silence)} s${stopped}` };
}

/** 'Rank 2 (host b, process 7) was lost: its process is gone' */
export function describeCulprit(reason: { text: string; rank: number }, group: MpiGroupHandle): string {
  if (reason.rank < 0) return reason.text.replace(/\.$/, '');
  const who = describeRank(reason.rank, group.identities[reason.rank]);
  const self = reason.rank === group.rank ? ' (this one)' : '';
  return `R${who.slice(1)}${self} ${reason.text.replace(/\.$/, '')}`;
}

/** Milliseconds as seconds, for messages. */
export function inSeconds(ms: number): string {
  return ms < 9_950 ? (ms / 1000).toFixed(1) : Math.round(ms / 1000).toString();
}
