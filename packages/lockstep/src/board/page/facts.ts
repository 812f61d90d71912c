/** Facts of runs, asked for once and again when they change; whoever shows them is told. */
import type { RunDetails, RunEntry } from '../protocol.js';
import type { Store } from './store.js';

export class Facts {
  readonly #known = new Map<number, { readonly end: number | null; readonly details: RunDetails }>();
  readonly #asked = new Set<number>();

  constructor(private readonly store: Store) {}

  /** Null until they are here: then the page is told that there are new figures. */
  of(run: RunEntry): RunDetails | null {
    const known = this.#known.get(run.id);
    if (known === undefined || known.end !== run.end) void this.#ask(run);
    return known?.details ?? null;
  }

  /** Replicas of all workers; null where the run does not say. */
  replicasOf(run: RunEntry): number | null {
    const count = Number(this.of(run)?.parameters.replicas);
    return count > 0 ? count : null;
  }

  async #ask({ id, end }: RunEntry): Promise<void> {
    if (this.#asked.has(id)) return;
    this.#asked.add(id);
    try {
      this.#known.set(id, { end, details: await this.store.source.details(id) });
      this.store.changed = new Set([id]);
      this.store.tell('data');
    } catch {
      // Asked again with the next change.
    } finally {
      this.#asked.delete(id);
    }
  }
}
