/** What the page shows of what there is: which runs, how smooth, over which axis and range, light or dark. One object; whoever draws listens. */
import type { RunEntry } from '../protocol.js';
import { Palette, type RunStyle } from './colors.js';
import type { Runs, Source } from './source.js';

export type Axis = 'step' | 'relative' | 'wall';
export type Theme = 'auto' | 'light' | 'dark';
export interface Range {
  readonly min: number;
  readonly max: number;
}

/** What has changed: figures of runs; which runs, or how they are drawn; the range alone; the theme; the run that somebody points at. */
export type Change = 'data' | 'view' | 'range' | 'theme' | 'hover';

/** Shown without being asked; more are a click away. */
const FIRST_SHOWN = 8;
const KEPT = 'lockstep-board';

export class Store {
  runs: Runs = { folder: '', tags: [], runs: [], isLoading: true };
  /** Runs whose figures are new with the latest change. */
  changed: ReadonlySet<number> = new Set();
  smoothing = 0.6;
  axis: Axis = 'step';
  isLog = false;
  theme: Theme = 'auto';
  filter = '';
  range: Range | null = null;
  isConnected = true;
  /** Drawn before the others while somebody points at it in the list. */
  hovered: number | null = null;
  /** The one that views of a single run show. */
  focus: number | null = null;
  #palette = new Palette('');
  /** By name: what was asked for, against what is shown anyway. */
  readonly #choices = new Map<string, boolean>();
  readonly #listeners = new Set<(change: Change) => void>();
  /** The last filter that was one. */
  #pattern: RegExp | null = null;
  readonly #isDarkOutside = matchMedia('(prefers-color-scheme: dark)');

  constructor(readonly source: Source) {
    try {
      const kept = JSON.parse(localStorage.getItem(KEPT) ?? '{}') as Partial<Store>;
      if (typeof kept.smoothing === 'number') this.smoothing = Math.min(0.99, Math.max(0, kept.smoothing));
      if (kept.axis === 'relative' || kept.axis === 'wall') this.axis = kept.axis;
      if (kept.theme === 'light' || kept.theme === 'dark') this.theme = kept.theme;
    } catch {
      // Nothing kept.
    }
    this.#isDarkOutside.addEventListener('change', () => this.tell('theme'));
  }

  listen(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  tell(change: Change): void {
    if (change === 'view' || change === 'data') this.#palette.meet(this.shown.map(({ name }) => name));
    for (const one of [...this.#listeners]) one(change);
  }

  /** Changes settings, keeps them for the next visit, and tells. */
  set(settings: Partial<Pick<Store, 'smoothing' | 'axis' | 'isLog' | 'theme' | 'filter' | 'focus'>>): void {
    if (settings.axis !== undefined && settings.axis !== this.axis) this.range = null;
    Object.assign(this, settings);
    try {
      const { smoothing, axis, theme } = this;
      localStorage.setItem(KEPT, JSON.stringify({ smoothing, axis, theme }));
    } catch {
      // They hold for this visit.
    }
    this.tell(settings.theme !== undefined ? 'theme' : 'view');
  }

  setRange(range: Range | null): void {
    this.range = range;
    this.tell('range');
  }

  async load(changed: readonly number[] | null): Promise<void> {
    const runs = await this.source.runs();
    if (runs.folder !== this.runs.folder) this.#palette = new Palette(runs.folder);
    const before = this.runs.runs.length;
    // The folder itself goes by its name.
    const here = runs.folder.split('/').findLast((part) => part !== '' && part !== '.') ?? '.';
    const named = runs.runs.map((run) => (run.name === '.' ? { ...run, name: here } : run));
    const sorted = named.sort((a, b) => (a.begin ?? 0) - (b.begin ?? 0) || (a.name < b.name ? -1 : 1));
    this.runs = { ...runs, runs: sorted };
    this.changed = new Set(changed ?? sorted.map(({ id }) => id));
    this.tell(before === sorted.length ? 'data' : 'view');
  }

  get isDark(): boolean {
    return this.theme === 'dark' || (this.theme === 'auto' && this.#isDarkOutside.matches);
  }

  styleOf(run: RunEntry): RunStyle {
    return this.#palette.of(run.name, this.isDark);
  }

  /** Whether the filter is a regular expression; if it is none, the last one that was holds. */
  get isFilterValid(): boolean {
    try {
      this.#pattern = this.filter === '' ? null : new RegExp(this.filter, 'i');
      return true;
    } catch {
      return false;
    }
  }

  /** Runs that the filter leaves, newest first. */
  get found(): readonly RunEntry[] {
    const newestFirst = [...this.runs.runs].reverse();
    const isValid = this.isFilterValid;
    const pattern = this.#pattern;
    return pattern === null && isValid ? newestFirst : newestFirst.filter(({ name }) => pattern?.test(name) ?? true);
  }

  /** Runs that are drawn, oldest first. */
  get shown(): readonly RunEntry[] {
    const { found } = this;
    const isFound = new Set(found);
    const usual = new Set(found.slice(0, FIRST_SHOWN).map(({ id }) => id));
    return this.runs.runs.filter((run) => isFound.has(run) && (this.#choices.get(run.name) ?? usual.has(run.id)));
  }

  show(runs: readonly RunEntry[], isShown: boolean): void {
    for (const { name } of runs) this.#choices.set(name, isShown);
    this.tell('view');
  }

  /** The run that views of one run show: the chosen one, else the newest that is drawn. */
  get focused(): RunEntry | null {
    const { shown } = this;
    return shown.find(({ id }) => id === this.focus) ?? shown.at(-1) ?? null;
  }

  /** Without telling. */
  hide({ name }: RunEntry): void {
    this.#choices.set(name, false);
  }

  has(run: RunEntry, tag: string): boolean {
    const place = this.runs.tags.indexOf(tag);
    return place >= 0 && run.tags.includes(place);
  }

  /** Tags of the runs that are drawn, in the order of their first coming. */
  get tags(): readonly string[] {
    const places = new Set(this.shown.flatMap(({ tags }) => tags));
    return this.runs.tags.filter((_, place) => places.has(place));
  }
}
