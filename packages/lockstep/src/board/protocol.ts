/** What the board's server tells its page, as JSON. The page imports these types alone; nothing here exists when it runs. */

/** Whose figures are where. */
export interface RunsAnswer {
  /** The folder that was given, as it was typed. */
  readonly folder: string;
  /** Names of all series; runs name them by their place here. */
  readonly tags: readonly string[];
  readonly runs: readonly RunEntry[];
  /** Whether files are still being read for the first time. */
  readonly isLoading: boolean;
}

export interface RunEntry {
  readonly id: number;
  /** The folder's path below the one that was given, with `/`; `.` for that one itself. */
  readonly name: string;
  /** Seconds since 1970 of the first and the last event; null without any. */
  readonly begin: number | null;
  readonly end: number | null;
  readonly step: number;
  /** Whether somebody is writing. */
  readonly isLive: boolean;
  /** Places in {@link RunsAnswer.tags}. */
  readonly tags: readonly number[];
  /** 0..1. Of evaluations, else of training. */
  readonly bestAccuracy: number | null;
  readonly loss: number | null;
  /** What could not be read, in words. */
  readonly notes: readonly string[];
  /** Steps of `timeline-….json` files, ascending: `20`, or `20-22`. */
  readonly timelines: readonly string[];
}

/** Facts of one run. */
export interface RunDetails {
  readonly id: number;
  /** From the text `parameters`. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Newest of each tag; Markdown or JSON. */
  readonly texts: Readonly<Record<string, { readonly step: number; readonly text: string }>>;
  /** Newest of each tag; the picture itself is asked for by its tag. */
  readonly images: Readonly<Record<string, { readonly step: number }>>;
}

/** A series, thinned out: each point stands for `count / length` of them. */
export interface SeriesAnswer {
  readonly run: number;
  readonly tag: string;
  /** Points there are in the range. */
  readonly count: number;
  readonly steps: readonly number[];
  /** Seconds since 1970. */
  readonly times: readonly number[];
  /** Mean of what a point stands for; null for NaN and infinities. */
  readonly values: readonly (number | null)[];
  /** Absent where each point stands for itself. */
  readonly low?: readonly (number | null)[];
  readonly high?: readonly (number | null)[];
}

/** Pushed: these runs have more to tell. */
export interface ChangeNote {
  readonly runs: readonly number[];
}

/** Text `evaluation/confusion`: see @lockstep/official's summary/evaluation-summary.ts. */
export interface Confusion {
  readonly classes: number;
  readonly names?: Readonly<Record<string, string>>;
  /** Row: label, column: prediction. Up to 50 classes. */
  readonly matrix?: readonly (readonly number[])[];
  /** Most frequent mistakes: label, prediction, how often. Where there are more classes. */
  readonly pairs?: readonly (readonly [number, number, number])[];
  readonly images: number;
}

/** Text `evaluation/samples`: tiles of the image `evaluation/samples_image`, row by row. */
export interface Samples {
  readonly columns: number;
  readonly tile: readonly [height: number, width: number];
  readonly names?: Readonly<Record<string, string>>;
  readonly items: readonly { readonly label: number; readonly prediction: number; readonly probability: number }[];
}
