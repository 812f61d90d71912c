/**
 * Records that cannot be read, counted by all threads of a process together (`--skip_bad_records`): which, so that each counts once
 * however often it is met, and what is wrong with the first ones. Plain data over shared memory.
 */

/** Text that is kept. */
const NOTE_BYTES = 16_384;

export interface SkippedRecords {
  /** How many may be skipped. */
  readonly limit: number;
  /** [0]: records that were skipped; [1]: bytes of `notes` that are taken. */
  readonly counts: Int32Array;
  /** By record: 1 if it was skipped. */
  readonly marks: Uint8Array;
  /** A line each, the first ones. */
  readonly notes: Uint8Array;
}

/** @param count records of the data set */
export function noSkippedRecords(count: number, limit: number): SkippedRecords {
  return {
    limit,
    counts: new Int32Array(new SharedArrayBuffer(8)),
    marks: new Uint8Array(new SharedArrayBuffer(count)),
    notes: new Uint8Array(new SharedArrayBuffer(NOTE_BYTES)),
  };
}

/** @param why one line @returns whether it may be skipped: not where there are more of them than the limit */
export function skipRecord({ limit, counts, marks, notes }: SkippedRecords, record: number, why: string): boolean {
  if (Atomics.exchange(marks, record, 1) === 1) return true;
  const line = new TextEncoder().encode(`${why}\n`);
  const at = Atomics.add(counts, 1, line.length);
  if (at + line.length <= notes.length) notes.set(line, at);
  return Atomics.add(counts, 0, 1) < limit;
}

/** For the end of a run: how many were skipped, and what was wrong with the first ones; nothing if there were none. */
export function skippedLines({ limit, counts, notes }: SkippedRecords): string[] {
  const [count = 0, bytes = 0] = counts;
  if (count === 0) return [];
  const lines = new TextDecoder().decode(notes.slice(0, Math.min(bytes, notes.length))).split('\n');
  const known = lines.slice(0, -1).filter((line) => line !== '');
  return [
    `${count} record${count === 1 ? '' : 's'} could not be read and ${count === 1 ? 'was' : 'were'} skipped (--skip_bad_records=${limit}):`,
    ...known.map((line) => `  ${line}`),
    ...(known.length < count ? [`  and ${count - known.length} more`] : []),
  ];
}
