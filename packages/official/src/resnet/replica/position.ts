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

/** Where a run goes on: what checkpoints say of it. */
export interface Position {
  readonly globalStep: number;
  /** Epochs of the train calls that are complete. */
  readonly epochs: number;
  /** Epochs of the call under way, 0 for none, and its steps that are done. */
  readonly callEpochs: number;
  readonly step: number;
  /** Images of such a step. */
  readonly batchSize: number;
}

/** Counts a run's steps, calls and epochs; nobody else does. */
export class RunPosition {
  #calls: TrainCalls;
  #call = 0;
  #epochsBefore = 0;
  #stepInCall = 0;
  #globalStep = 0;

  constructor(
    private readonly epochs: Epochs,
    /** Images of a global batch. */
    private readonly batchSize: number,
    /** Global step at which training ends; null: none. */
    private readonly lastStep: number | null = null,
  ) {
    this.#calls = new TrainCalls(epochs);
  }

  /** Steps that changed the weights, in all. */
  get globalStep(): number {
    return this.#globalStep;
  }

  /** The train call under way, and how many there are in all. */
  get call(): number {
    return this.#call;
  }

  get calls(): number {
    return this.#calls.length;
  }

  /** Epochs of the call under way; 0: everything is trained, or nothing is to be, and it only evaluates. */
  get callEpochs(): number {
    return this.#calls.of(this.#call);
  }

  /** Epochs of the calls that are complete. */
  get epochsBefore(): number {
    return this.#epochsBefore;
  }

  /** Steps of the call under way that are made, those that were skipped included. */
  get stepInCall(): number {
    return this.#stepInCall;
  }

  get isOver(): boolean {
    return this.#call >= this.#calls.length;
  }

  get isLastCall(): boolean {
    return this.#call + 1 === this.#calls.length;
  }

  /** Whether the global step is one that ends training, wherever it falls. */
  get isPastLastStep(): boolean {
    return this.lastStep !== null && this.#globalStep >= this.lastStep;
  }

  /** A step was made. @param isCounted whether it changed the weights: as in TensorFlow, a skipped one is no global step */
  advance(isCounted: boolean): void {
    this.#stepInCall++;
    if (isCounted) this.#globalStep++;
  }

  /** All steps of the call were made: what is saved from now on goes on behind it. */
  completeCall(): void {
    this.#epochsBefore += this.callEpochs;
    this.#stepInCall = 0;
  }

  nextCall(): void {
    this.#call++;
    this.#stepInCall = 0;
  }

  /** Epochs done, with fractions. @param steps of the call under way */
  epochAt(steps: number): number {
    return this.#epochsBefore + (this.callEpochs * this.#stepInCall) / steps;
  }

  /** Steps of all calls together. @param steps of the call under way */
  totalSteps(steps: number): number {
    const all = Math.round((steps * this.epochs.total) / this.callEpochs);
    return this.lastStep === null ? all : Math.min(all, this.lastStep);
  }

  /** For a checkpoint. */
  get saved(): Position {
    const isWithin = this.#stepInCall > 0;
    return {
      globalStep: this.#globalStep,
      epochs: this.#epochsBefore,
      callEpochs: isWithin ? this.callEpochs : 0,
      step: this.#stepInCall,
      batchSize: this.batchSize,
    };
  }

  /** Where a checkpoint stood, perhaps of a run with other calls and other batches. */
  goOnAt({ globalStep, epochs, callEpochs, step, batchSize }: Position): void {
    this.#globalStep = globalStep;
    // Whoever only evaluates has no place among epochs.
    if (this.epochs.total === 0) return;
    this.#calls = new TrainCalls(this.epochs, epochs, callEpochs);
    this.#call = this.#calls.first;
    this.#epochsBefore = epochs;
    this.#stepInCall = Math.floor((step * batchSize) / this.batchSize);
  }
}
