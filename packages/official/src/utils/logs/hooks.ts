/*
 * Training hooks: upstream's `official/utils/logs/hooks.py` and the TensorFlow hooks that it builds on. There is no
 * session here: a hook is an object that the run loop calls around every training step, with the values it asked for.
 *
 *   hook.begin(globalStep)                     once, before the first step of a train call
 *   hook.beforeRun(step) -> names              before a step: the values that this hook wants from it (often none)
 *   hook.afterRun(step, values, phases)        after it; `step` is the global step with this step counted
 *   hook.end(step, values)                     once, after the last step
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { makeFolder } from '../files/make-folder.js';
import { type Log, stderrLog } from './log.js';
import type { BaseBenchmarkLogger } from './logger.js';
import { type Timeline, type TraceEvent, writeTimeline } from './timeline.js';

/** Values of a step by name: learning_rate, cross_entropy, train_accuracy, …. */
export type StepValues = Readonly<Record<string, number>>;

/** Milliseconds that a replica spent in each phase of a step, in the order in which the phases ran. */
export type PhaseTimes = Readonly<Record<string, number>>;

/** What the run loop calls around every step; see the head of this file. */
export interface TrainHook {
  readonly name: string;
  /** @param globalStep the step that training starts from; undefined where there is none, which some hooks refuse. */
  begin(globalStep?: number): void;
  /** @param step the global step before this step. @returns names of the values that afterRun needs. */
  beforeRun(step: number): readonly string[];
  /**
   * @param step the global step after this step.
   * @param values at least the values that beforeRun asked for.
   * @param phases one entry per replica, where the run loop measures them.
   */
  afterRun(step: number, values: StepValues, phases?: readonly PhaseTimes[]): void;
  /** Every replica's trace of some steps, before {@link afterRun} of the last of them; where the run loop traces steps. */
  timeline?(timeline: Timeline): void;
  end(step: number, values?: StepValues): void;
}

/** Seconds on a clock that never goes back. */
export type Clock = () => number;

const monotonic: Clock = () => performance.now() / 1000;

/** When a hook is due: every so many steps, or every so many seconds; exactly one of the two. */
export interface Interval {
  everySteps?: number | null;
  everySecs?: number | null;
}

/** TensorFlow's SecondOrStepTimer: due at first, then after so many steps or seconds, at most once per step. */
export class SecondOrStepTimer {
  #lastStep: number | null = null;
  #lastTime = 0;

  constructor(
    private readonly interval: Interval,
    private readonly clock: Clock = monotonic,
  ) {}

  /** Due at first, again. */
  reset(): void {
    this.#lastStep = null;
  }

  /** True when a hook is due at this step. */
  shouldTriggerForStep(step: number): boolean {
    if (this.#lastStep === null) return true;
    if (this.#lastStep === step) return false;
    const { everySecs, everySteps } = this.interval;
    if (everySecs != null) return this.clock() >= this.#lastTime + everySecs;
    return everySteps != null && step >= this.#lastStep + everySteps;
  }

  /** Marks the step as done. @returns seconds and steps since the last one, or null at the first. */
  updateLastTriggeredStep(step: number): { secs: number; steps: number } | null {
    const now = this.clock();
    const elapsed = this.#lastStep === null ? null : { secs: now - this.#lastTime, steps: step - this.#lastStep };
    this.#lastStep = step;
    this.#lastTime = now;
    return elapsed;
  }
}

/** Options of the hooks that report values. */
export interface LoggingTensorOptions {
  /** Names of the values, in the order in which they are reported. */
  tensors: readonly string[];
  /** Steps between reports, counted in this train call; the first step reports. */
  everyNIter?: number | null;
  everyNSecs?: number | null;
  /** Report after the last step as well; may be the only report. */
  atEnd?: boolean;
  log?: Log;
  clock?: Clock;
}

/** Writes values into the log: `learning_rate = 0.1, cross_entropy = 2.3 (1.250 sec)`. */
export class LoggingTensorHook implements TrainHook {
  readonly name: string = 'LoggingTensorHook';
  protected readonly tensors: readonly string[];
  readonly #timer: SecondOrStepTimer | null;
  readonly #atEnd: boolean;
  readonly #log: Log;
  #iteration = 0;
  #due = false;
  #latest: StepValues | null = null;

  /** @throws RangeError with TensorFlow's texts for both or no interval, or an interval that is not positive. */
  constructor(options: LoggingTensorOptions) {
    const { everyNIter = null, everyNSecs = null, atEnd = false } = options;
    const onlyAtEnd = atEnd && everyNIter === null && everyNSecs === null;
    if (!onlyAtEnd && (everyNIter === null) === (everyNSecs === null)) {
      throw new RangeError('either at_end and/or exactly one of every_n_iter and every_n_secs must be provided.');
    }
    if (everyNIter !== null && everyNIter <= 0) throw new RangeError(`invalid every_n_iter=${everyNIter}.`);
    this.tensors = [...options.tensors];
    const interval = { everySteps: everyNIter, everySecs: everyNSecs };
    this.#timer = onlyAtEnd ? null : new SecondOrStepTimer(interval, options.clock);
    this.#atEnd = atEnd;
    this.#log = options.log ?? stderrLog;
  }

  begin(_globalStep?: number): void {
    this.#timer?.reset();
    this.#iteration = 0;
  }

  beforeRun(_step: number): readonly string[] {
    this.#due = this.#timer?.shouldTriggerForStep(this.#iteration) ?? false;
    return this.#due ? this.tensors : [];
  }

  afterRun(step: number, values: StepValues, _phases?: readonly PhaseTimes[]): void {
    this.#latest = values;
    if (this.#due) {
      const elapsed = this.#timer!.updateLastTriggeredStep(this.#iteration);
      this.report(step, this.#pick(step, values), elapsed?.secs ?? null);
    }
    this.#iteration++;
  }

  end(step: number, values: StepValues = this.#latest ?? {}): void {
    if (this.#atEnd) this.report(step, this.#pick(step, values), null);
  }

  /** What becomes of the values; LoggingMetricHook sends them elsewhere. */
  protected report(_step: number, values: readonly [string, number][], secs: number | null): void {
    const stats = values.map(([name, value]) => `${name} = ${formatNumber(value)}`).join(', ');
    this.#log.info(secs === null ? stats : `${stats} (${secs.toFixed(3)} sec)`);
  }

  #pick(step: number, values: StepValues): [string, number][] {
    return this.tensors.map((tensor) => {
      const value = values[tensor];
      if (value === undefined) {
        throw new Error(
          `${this.name} found no value '${tensor}' at step ${step}; there are: ${Object.keys(values).join(', ') || 'none'}. The run loop must give afterRun what beforeRun asks for.`,
        );
      }
      return [tensor, value];
    });
  }
}

/** At most eight significant digits, as numpy prints a float32. */
function formatNumber(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(8))) : String(value);
}

/** Options of ExamplesPerSecondHook. */
export interface ExamplesPerSecondOptions {
  /** Examples per step, over all devices. */
  batchSize: number;
  everyNSteps?: number | null;
  everyNSecs?: number | null;
  /** Steps at the start that are not counted, while caches fill; default -1, which counts all. */
  warmSteps?: number;
  metricLogger: BaseBenchmarkLogger;
  clock?: Clock;
}

/** Logs the metrics average_examples_per_sec (since the warm-up) and current_examples_per_sec (since the last time). */
export class ExamplesPerSecondHook implements TrainHook {
  readonly name = 'ExamplesPerSecondHook';
  /** Every current value so far. */
  readonly currentExamplesPerSecList: number[] = [];
  readonly #timer: SecondOrStepTimer;
  readonly #options: ExamplesPerSecondOptions;
  #totalSecs = 0;
  #totalSteps = 0;

  /** @throws RangeError unless exactly one interval is given. */
  constructor(options: ExamplesPerSecondOptions) {
    const { everyNSteps = null, everyNSecs = null } = options;
    if ((everyNSteps === null) === (everyNSecs === null)) {
      throw new RangeError('exactly one of every_n_steps and every_n_secs should be provided.');
    }
    this.#timer = new SecondOrStepTimer({ everySteps: everyNSteps, everySecs: everyNSecs }, options.clock);
    this.#options = options;
  }

  /** @throws Error without a global step. */
  begin(globalStep?: number): void {
    if (globalStep === undefined) throw new Error('Global step should be created to use StepCounterHook.');
  }

  beforeRun(_step: number): readonly string[] {
    return [];
  }

  afterRun(step: number, _values: StepValues, _phases?: readonly PhaseTimes[]): void {
    const { batchSize, warmSteps = -1, metricLogger } = this.#options;
    if (!this.#timer.shouldTriggerForStep(step) || step <= warmSteps) return;
    const elapsed = this.#timer.updateLastTriggeredStep(step);
    if (elapsed === null) return;
    this.#totalSecs += elapsed.secs;
    this.#totalSteps += elapsed.steps;
    const current = (batchSize * elapsed.steps) / elapsed.secs;
    this.currentExamplesPerSecList.push(current);
    const average = (batchSize * this.#totalSteps) / this.#totalSecs;
    metricLogger.logMetric('average_examples_per_sec', average, { globalStep: step });
    metricLogger.logMetric('current_examples_per_sec', current, { globalStep: step });
  }

  end(_step: number, _values?: StepValues): void {}
}

/** Steps from one of ProfilerHook's timelines to the next, as upstream. */
export const PROFILER_SAVE_STEPS = 1000;

/** Options of ProfilerHook. */
export interface ProfilerOptions {
  /** Steps between two files; default 1000. */
  saveSteps?: number;
  /** Folder of the files, made if missing. */
  outputDir: string;
  log?: Log;
}

/**
 * Writes `timeline-STEP.json`, a Chrome trace (chrome://tracing, ui.perfetto.dev) of one step, every so many steps.
 * TensorFlow's hook traces single kernels inside a session; here the trace shows what every replica did, layer by layer and pack by pack
 * (timeline.ts), or where the run loop traces nothing, the phases of the step.
 */
export class ProfilerHook implements TrainHook {
  readonly name = 'ProfilerHook';
  readonly #timer: SecondOrStepTimer;
  readonly #outputDir: string;
  readonly #log: Log;
  #started = false;
  #warned = false;
  /** Last step of a timeline that was made of a trace. */
  #traced: number | null = null;

  constructor(options: ProfilerOptions) {
    const { saveSteps = PROFILER_SAVE_STEPS } = options;
    if (!(saveSteps > 0)) throw new RangeError(`invalid save_steps=${saveSteps}. Give a positive number of steps.`);
    this.#timer = new SecondOrStepTimer({ everySteps: saveSteps });
    this.#outputDir = options.outputDir;
    this.#log = options.log ?? stderrLog;
  }

  begin(_globalStep?: number): void {
    this.#timer.reset();
    this.#started = false;
  }

  beforeRun(_step: number): readonly string[] {
    return [];
  }

  afterRun(step: number, _values: StepValues, phases?: readonly PhaseTimes[]): void {
    if (!this.#started) {
      // The first file comes after saveSteps steps, not at once: the first steps are not typical.
      this.#timer.updateLastTriggeredStep(step - 1);
      this.#started = true;
    }
    if (!this.#timer.shouldTriggerForStep(step)) return;
    this.#timer.updateLastTriggeredStep(step);
    if (this.#traced === step) return;
    if (phases === undefined || phases.length === 0) {
      if (!this.#warned) {
        this.#log.warning(`ProfilerHook: the run loop measured no phases at step ${step}; no timeline is written.`);
      }
      this.#warned = true;
      return;
    }
    const file = path.join(this.#outputDir, `timeline-${step}.json`);
    try {
      makeFolder(this.#outputDir);
      writeFileSync(file, `${JSON.stringify(chromeTrace(step, phases))}\n`);
      this.#log.info(`Saving timeline for ${step} into '${file}'.`);
    } catch (error) {
      this.#log.warning(`ProfilerHook: ${file} cannot be written: ${error instanceof Error ? error.message : error}`);
    }
  }

  timeline(timeline: Timeline): void {
    this.#traced = timeline.last;
    // Of --profile_steps: it is written already, perhaps under the name that this hook would take.
    if (!timeline.isAsked) writeTimeline(this.#outputDir, timeline, this.#log);
  }

  end(_step: number, _values?: StepValues): void {}
}

/** One step as a Chrome trace: one row per replica, its phases one after the other from time 0. */
export function chromeTrace(step: number, phases: readonly PhaseTimes[]): { traceEvents: TraceEvent[] } {
  const traceEvents: TraceEvent[] = [];
  for (const [replica, times] of phases.entries()) {
    traceEvents.push({ ph: 'M', name: 'thread_name', pid: 0, tid: replica, args: { name: `replica ${replica}` } });
    let ts = 0;
    for (const [name, ms] of Object.entries(times)) {
      const dur = ms * 1000;
      traceEvents.push({ ph: 'X', name, cat: 'step', pid: 0, tid: replica, ts, dur, args: { step } });
      ts += dur;
    }
  }
  return { traceEvents };
}
