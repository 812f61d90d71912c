/**
 * Who a rank is: host, process, and whether this process can see it with its own eyes.
 *
 * Ranks of one host watch each other's processes through /proc, which tells at once what silence tells only later: that a
 * process is gone, or stopped. Containers may share a host name and not a process namespace, so both are compared.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import type { ProcessState } from './status-board.js';

export interface RankIdentity {
  readonly host: string;
  readonly pid: number;
  /** Clock ticks after boot, so that a reused number is not taken for the same process. '' where unknown. */
  readonly started: string;
  /** Equal for processes that can see each other. '' = cannot be seen. */
  readonly namespace: string;
}

export function ownIdentity(): RankIdentity {
  let namespace = '';
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    namespace = `${boot} ${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    // Not Linux: silence has to do.
  }
  return { host: hostname(), pid: process.pid, started: readStat(process.pid)?.started ?? '', namespace };
}

/** What /proc says of a rank's process. 'unknown' if it is not visible from here. */
export function processState(identity: RankIdentity, self: RankIdentity): ProcessState {
  if (identity.namespace === '' || identity.namespace !== self.namespace) return 'unknown';
  const stat = readStat(identity.pid);
  if (!stat || stat.started !== identity.started) return 'gone';
  if (stat.state === 'Z' || stat.state === 'X') return 'gone';
  return stat.state === 'T' || stat.state === 't' ? 'stopped' : 'running';
}

/** 'rank 2 (host b, process 4711)' */
export function describeRank(rank: number, identity: RankIdentity | undefined): string {
  return identity ? `rank ${rank} (host ${identity.host}, process ${identity.pid})` : `rank ${rank}`;
}

function readStat(pid: number): { state: string; started: string } | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null;
  }
  // The command's name stands in parentheses and may hold anything, so fields count from the last one.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', started: fields[19] ?? '' };
}
