/**
 * A step that is the same every time: run by TensorFlow.js at first, then recorded, then replayed as a list of primitives.
 *
 * What TensorFlow.js costs for each operation (tape, shapes, layouts, caches, garbage) is up to a seventh of a small network's
 * step. A recording costs one call for each primitive. It is to this backend what a CUDA graph is to a GPU's, and what is true
 * for `tf.function` is true here: the host's code runs while the step is recorded, and not afterwards.
 *
 * Nothing is replayed that could differ. The step is rehearsed first; it is recorded only if a second run makes the same
 * primitives and the same constants, so random numbers and counters stay with TensorFlow.js; and code that reads data in
 * between makes it refuse (see recorder.ts). A recording whose inputs were replaced is made anew, and so is one whose layers or
 * variables were changed (frozen, another dropout rate; see layer-settings.ts): TensorFlow.js would see it in the next step.
 */
import { engine, env, type Variable } from '@tensorflow/tfjs-core';
import { type Arena, OutOfMemoryError } from '../memory/pool.js';
import type { TensorStorage } from '../memory/storage.js';
import type { Runtime } from '../runtime.js';
import { type LayerSettings, settingsUsedBy } from './layer-settings.js';
import { Recorder, type Recording } from './recorder.js';

/** Runs before a rehearsal: primitives are compiled, and memory has found its place. */
const WARM_UP = 2;
/** Replays after which a recording has paid for itself. */
const WORTHWHILE = 16;
/** Recordings in vain before the next has to wait: what was replaced may have been replaced for once. */
const MAX_IN_VAIN = 2;
/** The longest wait, in runs: a step that replaces what it reads in every run costs next to nothing then. */
const LONGEST_WAIT = 256;

/** What a program needs of the backend. */
export interface ProgramHost {
  readonly runtime: Runtime;
  readonly precision: string;
  readonly data: { has(dataId: object): boolean };
  unresolved(dataId: object): TensorStorage;
}

interface VariableState {
  readonly variable: Variable;
  readonly dataId: object;
  readonly trainable: boolean;
}

export type ProgramState = 'warming up' | 'recorded' | 'not recordable';

/** See the file's head. It belongs to the thread that made it. */
export class StepProgram {
  /** Runs until the next rehearsal. */
  #wait = WARM_UP;
  /** Recordings one after another that did not pay for themselves. */
  #inVain = 0;
  /** Times that a run did not compute what its rehearsal had, one after another. */
  #differed = 0;
  /** Replays of the present recording. */
  #replays = 0;
  #rehearsal: Recorder | null = null;
  #recording: Recording | null = null;
  #arena: Arena | null = null;
  #precision = '';
  /** The layers that the recording called. */
  #settings: LayerSettings | null = null;
  /** Variables that the recording reads, as they were when it was made: an assignment gives them other data. */
  #variables: readonly VariableState[] = [];
  #refusal: string | null = null;

  /** @param objection Asked before each recording: why there must be none, or null. */
  constructor(
    private readonly backend: ProgramHost,
    private readonly objection: () => string | null = () => null,
  ) {
    if (!backend.runtime.recording) this.#refusal = 'recording is off';
  }

  private get runtime(): Runtime {
    return this.backend.runtime;
  }

  get state(): ProgramState {
    if (this.#refusal !== null) return 'not recordable';
    return this.#recording ? 'recorded' : 'warming up';
  }

  /** Why the step stays with TensorFlow.js, for people; null if it does not. */
  get refusal(): string | null {
    return this.#refusal;
  }

  /** Operations of a replay; 0 until there is a recording. */
  get length(): number {
    return this.#recording?.length ?? 0;
  }

  /**
   * Runs `step`, or what it did when it was recorded.
   *
   * `step` must read its data from tensors that stay, and leave its results where {@link OneDnnBackend.observe} puts them.
   */
  run(step: () => void): void {
    // Inside another program's recording the step is part of that one; a profile and the debug mode want to see kernels.
    const isObserved = this.runtime.recorder !== null || engine().state.profiling || env().getBool('DEBUG');
    if (this.#recording && !isObserved) {
      if (this.#isValid(this.#recording)) {
        this.#replays++;
        this.#recording.replay();
        return;
      }
      this.#forget();
    }
    if (this.#refusal !== null || isObserved || this.#wait-- > 0) this.runtime.runStep(step);
    else if (this.#rehearsal === null) this.#rehearse(step);
    else this.#record(step, this.#rehearsal);
  }

  /** Frees the recording; the next runs make another. */
  dispose(): void {
    this.#forget();
  }

  #rehearse(step: () => void): void {
    const recorder = new Recorder(false);
    try {
      this.#listen(recorder, step);
    } finally {
      recorder.releaseCopies(this.runtime.pool);
    }
    this.#refuse(recorder.refusal);
    this.#rehearsal = recorder;
  }

  #record(step: () => void, rehearsal: Recorder): void {
    const objection = this.objection();
    if (objection !== null) {
      this.#rehearsal = null;
      this.#refuse(objection);
      this.runtime.runStep(step);
      return;
    }
    const { pool } = this.runtime;
    // What the step needed so far is what the recording needs of its own.
    pool.trim();
    const arena = pool.enter();
    const recorder = new Recorder(true);
    let isDone = false;
    let isKept = false;
    try {
      const settings = settingsUsedBy(() => this.#listen(recorder, step));
      isDone = true;
      this.#refuse(recorder.refusal);
      if (this.#refusal !== null || !this.#isSteady(recorder.isLike(rehearsal))) return;
      const recording = recorder.finish(this.runtime.scratchpad);
      isKept = true;
      this.#recording = recording;
      this.#replays = 0;
      this.#arena = arena;
      this.#precision = this.backend.precision;
      this.#settings = settings;
      this.#variables = this.#variablesOf(recording);
      this.runtime.programs.add(this);
      // What the step had before is garbage by now, and most of it collected; the recording has memory of its own.
      pool.giveBack();
      this.runtime.onProgram(`recorded, ${recording.length} operations`);
    } catch (error) {
      // The step itself is done if it is the scratchpad that found no room: then it stays with TensorFlow.js.
      if (!isDone || !(error instanceof OutOfMemoryError)) throw error;
      this.#refuse(`no memory for its scratchpad: ${error.message}`);
    } finally {
      pool.leave();
      recorder.releaseCopies(pool);
      if (!isKept) {
        recorder.discard();
        pool.close(arena);
      }
      this.#rehearsal = null;
    }
  }

  /** Whether two runs were alike. Something may have been changed between them; a second time it is the step itself. */
  #isSteady(areAlike: boolean): boolean {
    if (areAlike) this.#differed = 0;
    else if (++this.#differed > 1) this.#refuse('two runs of it did not compute the same');
    return areAlike;
  }

  #isValid(recording: Recording): boolean {
    return (
      recording.isValid &&
      this.backend.precision === this.#precision &&
      this.#variables.every(
        ({ variable, dataId, trainable }) => variable.dataId === dataId && variable.trainable === trainable,
      ) &&
      this.#settings?.areSame === true
    );
  }

  #variablesOf(recording: Recording): VariableState[] {
    return Object.values(engine().state.registeredVariables)
      .filter(({ dataId }) => this.backend.data.has(dataId) && recording.reads(this.backend.unresolved(dataId)))
      .map((variable) => ({ variable, dataId: variable.dataId, trainable: variable.trainable }));
  }

  #refuse(reason: string | null): void {
    this.#refusal = reason;
    if (reason !== null) this.runtime.onProgram(`not recordable: ${reason}`);
  }

  #listen(recorder: Recorder, step: () => void): void {
    this.runtime.recorder = recorder;
    try {
      this.runtime.runStep(step);
    } finally {
      this.runtime.recorder = null;
    }
  }

  #forget(): void {
    if (this.#recording) this.#inVain = this.#replays < WORTHWHILE ? this.#inVain + 1 : 0;
    this.runtime.programs.delete(this);
    this.#recording?.dispose();
    this.#recording = null;
    this.#settings = null;
    this.#variables = [];
    if (this.#arena) this.runtime.pool.close(this.#arena);
    this.#arena = null;
    this.#rehearsal = null;
    this.#wait = this.#inVain <= MAX_IN_VAIN ? 0 : Math.min(2 ** (this.#inVain + 1), LONGEST_WAIT);
  }
}
