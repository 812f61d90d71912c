/**
 * All runs below a folder: every folder with event files in it is one. Links are not followed, so nothing outside is ever looked at. Files
 * are looked for again and read on when somebody asks, in slices, so that whoever shares the thread gets his turn.
 */
import { type Dirent, lstatSync, readdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { LOCK_NAME } from '@lockstep/official/utils/checkpoint/model-dir-lock';
import { reasonOf } from '@lockstep/official/utils/files/file-errors';
import type { RunEntry, RunsAnswer } from './protocol.js';
import { type FoundFile, Run } from './run.js';

const EVENTS = /\.tfevents\./;
const OURS = /\.lockstep$/;
const TIMELINE = /^timeline-(\d{1,15}(?:-\d{1,15})?)\.json$/;
/** Deeper is nobody's run. */
const MAX_DEPTH = 12;
/** A run touches its lock every five seconds. */
const LOCK_FRESH_MS = 20_000;
/** A writer that has no lock. */
const FILE_FRESH_MS = 60_000;
/** After looking for files they rest for so many times as long as it took. */
const REST_SHARE = 20;
/** A thread is held up for no longer. */
const TURN_MS = 20;

export class Runs {
  /** Where the files are. */
  readonly root: string;
  isLoading = true;
  /** Why the folder could not be looked into, in words. */
  problem: string | null = null;
  readonly #byFolder = new Map<string, Run>();
  readonly #byId = new Map<number, Run>();
  readonly #tags = new Map<string, number>();
  #refreshing: Promise<readonly number[]> | null = null;
  #scannedAt = Number.NEGATIVE_INFINITY;
  #scanMs = 0;
  #ids = 0;

  /** @param folder as it was typed; it may not exist yet */
  constructor(
    readonly folder: string,
    private readonly options: { /** Default {@link REST_SHARE}. */ readonly restShare?: number } = {},
  ) {
    this.root = folder;
  }

  byId(id: number): Run | undefined {
    return this.#byId.get(id);
  }

  get all(): readonly Run[] {
    return [...this.#byFolder.values()];
  }

  /** Looks for files and reads what is new. @returns runs that have changed, by id */
  refresh(): Promise<readonly number[]> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  answer(): RunsAnswer {
    const runs = this.all.map((run): RunEntry => {
      const { id, name, begin, end, step, isLive, bestAccuracy, notes, timelines } = run;
      const tags = [...run.series.keys()].map((tag) => this.#placeOf(tag));
      const loss = run.series.get('loss')?.last ?? null;
      return { id, name, begin, end, step, isLive, tags, bestAccuracy, loss, notes, timelines };
    });
    return { folder: this.folder, tags: [...this.#tags.keys()], runs, isLoading: this.isLoading };
  }

  async #refresh(): Promise<readonly number[]> {
    const changed = new Set<number>();
    // The first time, and then as often as is cheap.
    if (performance.now() - this.#scannedAt >= (this.options.restShare ?? REST_SHARE) * this.#scanMs) {
      const begin = performance.now();
      await this.#scan(changed);
      this.#scanMs = performance.now() - begin;
      this.#scannedAt = performance.now();
    }
    let begin = performance.now();
    for (const id of changed) {
      const run = this.#byId.get(id);
      while (run?.read()) {
        if (performance.now() - begin < TURN_MS) continue;
        await turn();
        begin = performance.now();
      }
    }
    this.isLoading = false;
    return [...changed];
  }

  async #scan(changed: Set<number>): Promise<void> {
    const seen = new Set<string>();
    let begin = performance.now();
    const pending: { folder: string; name: string; depth: number }[] = [{ folder: this.root, name: '.', depth: 0 }];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const { folder, name, depth } = next;
      let entries: Dirent[];
      try {
        // The folder itself may be a link; what lies below it may not.
        entries = readdirSync(depth === 0 ? realpathSync(folder) : folder, { withFileTypes: true });
        if (depth === 0) this.problem = null;
      } catch (error) {
        if (depth === 0) this.problem = reasonOf(error);
        continue;
      }
      for (const entry of entries) {
        if (!entry.isDirectory() || depth >= MAX_DEPTH || entry.name === 'node_modules') continue;
        const below = name === '.' ? entry.name : `${name}/${entry.name}`;
        pending.push({ folder: join(folder, entry.name), name: below, depth: depth + 1 });
      }
      if (this.#look(folder, name, entries, changed)) seen.add(folder);
      if (performance.now() - begin < TURN_MS) continue;
      await turn();
      begin = performance.now();
    }
    for (const [folder, run] of this.#byFolder) {
      if (seen.has(folder)) continue;
      this.#byFolder.delete(folder);
      this.#byId.delete(run.id);
      changed.add(run.id);
    }
  }

  /** @returns whether the folder holds a run */
  #look(folder: string, name: string, entries: readonly Dirent[], changed: Set<number>): boolean {
    const events = entries.filter((entry) => entry.isFile() && EVENTS.test(entry.name));
    if (events.length === 0) return false;
    const files = events.flatMap((entry) => statsOf(folder, entry.name));
    // Their names begin with the second in which they were made.
    files.sort((a, b) => (a.name < b.name ? -1 : 1));
    let run = this.#byFolder.get(folder);
    if (run === undefined) {
      run = new Run(this.#ids++, name, folder);
      this.#byFolder.set(folder, run);
      this.#byId.set(run.id, run);
      changed.add(run.id);
    }
    const timelines = entries
      .flatMap((entry) => (entry.isFile() && TIMELINE.exec(entry.name)?.[1]) || [])
      .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
    const isLive = looksLive(
      files,
      entries.some((entry) => entry.name === LOCK_NAME) ? statsOf(folder, LOCK_NAME) : [],
    );
    if (run.look(files) || run.isLive !== isLive || `${run.timelines}` !== `${timelines}`) changed.add(run.id);
    run.isLive = isLive;
    run.timelines = timelines;
    return true;
  }

  #placeOf(tag: string): number {
    const known = this.#tags.get(tag);
    if (known !== undefined) return known;
    this.#tags.set(tag, this.#tags.size);
    return this.#tags.size - 1;
  }
}

/** A run of ours holds a lock; another writer is known by its file alone. */
function looksLive(files: readonly FoundFile[], locks: readonly FoundFile[]): boolean {
  const now = Date.now();
  if (locks.some(({ mtimeMs }) => now - mtimeMs < LOCK_FRESH_MS)) return true;
  return files.some(({ name, mtimeMs }) => !OURS.test(name) && now - mtimeMs < FILE_FRESH_MS);
}

/** Nothing where it is gone meanwhile, or cannot be looked at. */
function statsOf(folder: string, name: string): FoundFile[] {
  try {
    const { size, ino, mtimeMs } = lstatSync(join(folder, name));
    return [{ name, size, ino, mtimeMs }];
  } catch {
    return [];
  }
}
