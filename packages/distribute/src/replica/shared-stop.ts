/**
 * Whether a run is to end, where other processes may have been asked to: a trainer's step tells it with its own exchange, and whoever
 * asks after a step gets that answer for nothing.
 */
export class SharedStop {
  /** What the last step told; null once that answer was given. */
  #learned: boolean | null = null;

  /**
   * @param asked Whether this replica knows of a wish to stop; told to all with a step's exchange.
   * @param ask The answer where no step has brought one. Collective.
   */
  constructor(
    readonly asked: () => boolean,
    private readonly ask: () => boolean,
  ) {}

  /** Told once per step, the same on all replicas in step. */
  learn(stop: boolean): void {
    this.#learned = stop;
  }

  answer(): boolean {
    const learned = this.#learned;
    this.#learned = null;
    return learned ?? this.ask();
  }
}
