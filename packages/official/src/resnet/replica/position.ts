/**
 * Where in its epochs a run is. Epochs are cut into train calls, each followed by an evaluation (upstream's schedule); a run
 * that is resumed goes on within the call that it left, or at the next one. All of it is arithmetic: a run of 10¹⁵ epochs needs
 * no list of its calls.
 */

/** A run's epochs: how many, and between how many it evaluates. 0 in all: it only evaluates. */
export interface Epochs {
  readonly total: number;
  readonly betweenEvals: number;
}

/** Train calls of a run, from a place on. */
export class TrainCalls {
  /** All calls, those that are over included. At least 1: a run without epochs evaluates. */
  readonly length: number;
  /** The one to go on with; those before it are over. */
  readonly first: number;
  /** Epoch at which the first call ends. */
  readonly #end: number;

  /**
   * @param done epochs that are over, perhaps in calls of another length.
   * @param call epochs of a call that was left in its middle: it is finished as it began, because its batches depend on where
   *   it began; 0: the last call was complete.
   */
  constructor(
    private readonly epochs: Epochs,
    private readonly done = 0,
    call = 0,
  ) {
    const { total } = epochs;
    const calls = Math.max(1, this.#callsUpTo(total));
    if (done >= total) {
      this.length = calls;
      this.first = calls - 1;
      this.#end = done;
      return;
    }
    this.first = this.#callsUpTo(done);
    this.#end = call > 0 ? Math.min(done + call, total) : this.#endOf(this.first + 1);
    this.length = calls - (this.#callsUpTo(this.#end) - (this.first + 1));
  }

  /** Epochs of a call that is not over: equal ones, the last one what is left; 0: everything is over, and it only evaluates. */
  of(call: number): number {
    if (call === this.first) return this.#end - this.done;
    const last = this.#callsUpTo(this.#end) + (call - this.first);
    return this.#endOf(last) - Math.max(this.#end, this.#endOf(last - 1));
  }

  /** Calls of full length that are over at an epoch; all of them at the end. */
  #callsUpTo(epoch: number): number {
    const { total, betweenEvals } = this.epochs;
    return epoch >= total ? Math.ceil(total / betweenEvals) : Math.floor(epoch / betweenEvals);
  }

  /** Epoch at which the first `calls` of full length are over. */
  #endOf(calls: number): number {
    return Math.min(calls * this.epochs.betweenEvals, this.epochs.total);
  }
}
