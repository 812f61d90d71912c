/**
 * What may be told of a run, and who is told. The screen, the Model Garden's hooks and the benchmark logger are entries of one
 * list; whoever else wants to know (event files, a report) is one more. An observer changes nothing about the run, and lives on
 * the main thread: what it is told happened some milliseconds ago.
 */
import type { SummaryPicture } from '@lockstep/distribute';
import type { Histogram } from './histogram.js';
import type { RunInfoOptions } from './run-info.js';
import type { Timeline } from './timeline.js';

/** A training step. */
export interface StepReport {
  readonly globalStep: number;
  /** Steps of all train calls together; infinitely many where nothing ends them. */
  readonly totalSteps: number;
  /** Epochs done, with fractions. */
  readonly epoch: number;
  /** With the L2 term. */
  readonly loss: number;
  readonly crossEntropy: number;
  /** Of the batch, 0..1. */
  readonly accuracy: number;
  /** Of all batches of the train call so far: upstream's train_accuracy. */
  readonly callAccuracy: number;
  readonly callAccuracyTop5: number;
  readonly learningRate: number;
  readonly lossScale: number;
  /** Bytes of all gradients, in f32. */
  readonly gradientBytes: number;
  readonly stepMs: number;
  /** Milliseconds. */
  readonly phases: { input: number; forward: number; backward: number; reduce: number; update: number };
}

export interface EvaluationResult {
  /** 0..1, as the next. */
  readonly accuracy: number;
  readonly accuracyTop5: number;
  /** Mean cross-entropy plus the L2 term. */
  readonly loss: number;
  readonly globalStep: number;
}

/** What an evaluation found beside its figures: for people to look at. Made only where somebody wants it. */
export interface EvaluationDetails {
  readonly classes: number;
  /** By label. */
  readonly names?: readonly string[];
  /** How often each class (rows) was taken for each (columns). */
  readonly confusion: Float64Array;
  /** Of the chief's share, all of one shape: mistakes first, the surest before the others. */
  readonly samples: readonly SampleImage[];
}

/** An image as a network sees it, made visible. */
export interface SampleImage extends SummaryPicture {
  readonly label: number;
  readonly prediction: number;
  /** Of the prediction, 0..1. */
  readonly probability: number;
}

/** What event files get beside figures, by tag. */
export interface SummaryReport {
  readonly globalStep: number;
  /** Markdown. */
  readonly texts?: Readonly<Record<string, string>>;
  readonly pictures?: Readonly<Record<string, SummaryPicture>>;
  readonly histograms?: Readonly<Record<string, Histogram>>;
}

export interface RunObserver {
  /** Whether every step is to be reported, not only a few a second. Default false. */
  readonly wantsEveryStep?: boolean;
  /** Before anything is trained. */
  begin?(run: RunInfoOptions): void;
  /** A train call begins, from this step on. */
  callBegins?(globalStep: number): void;
  step?(step: StepReport): void;
  /** Only where event files are written. */
  summary?(summary: SummaryReport): void;
  /** Steps were traced; the last of them is told by {@link step} after this. */
  timeline?(timeline: Timeline): void;
  callEnds?(globalStep: number): void;
  evaluation?(result: EvaluationResult, details?: EvaluationDetails): void;
  checkpoint?(path: string, globalStep: number): void;
  /** A line for people. @param isDetail the Model Garden's own: cycles and the like */
  line?(text: string, isDetail: boolean): void;
  /** The run is over, however it ended. */
  end?(): void;
}

/** A list of observers as one: each is told in turn. */
export function observeAll(observers: readonly RunObserver[]): Required<RunObserver> {
  return {
    wantsEveryStep: observers.some(({ wantsEveryStep }) => wantsEveryStep === true),
    begin: (run) => {
      for (const one of observers) one.begin?.(run);
    },
    callBegins: (globalStep) => {
      for (const one of observers) one.callBegins?.(globalStep);
    },
    step: (step) => {
      for (const one of observers) one.step?.(step);
    },
    summary: (summary) => {
      for (const one of observers) one.summary?.(summary);
    },
    timeline: (timeline) => {
      for (const one of observers) one.timeline?.(timeline);
    },
    callEnds: (globalStep) => {
      for (const one of observers) one.callEnds?.(globalStep);
    },
    evaluation: (result, details) => {
      for (const one of observers) one.evaluation?.(result, details);
    },
    checkpoint: (path, globalStep) => {
      for (const one of observers) one.checkpoint?.(path, globalStep);
    },
    line: (text, isDetail) => {
      for (const one of observers) one.line?.(text, isDetail);
    },
    end: () => {
      for (const one of observers) one.end?.();
    },
  };
}
