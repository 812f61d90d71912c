/** What crosses threads between the main thread of a run and its replicas: arguments, reports, results. Plain data. */
import type { ActivationType } from '@lockstep/distribute';
import type { DataSet } from '../../data/data-set.js';
import type { EvaluationDetails, EvaluationResult, StepReport, SummaryReport } from '../../utils/logs/run-observer.js';
import type { Timeline } from '../../utils/logs/timeline.js';
import type { CleanPlan } from '../../utils/misc/clean-model-dir.js';
import type { RunFormatName } from '../checkpoint-formats.js';
import type { DecayOptions } from '../lr-schedule.js';
import type { ResNetPlan } from '../resnet-model.js';
import type { Epochs, Position } from './position.js';
import type { ProfileOptions } from './step-profile.js';

/** Everything a run needs, as plain data: it crosses threads. */
export interface ReplicaArguments {
  readonly plan: ResNetPlan;
  readonly seed: number;
  readonly modelDir: string;
  /** The chief's, with --clean: checkpoints that are there count for nothing, and go as soon as the replicas are ready. */
  readonly clean: CleanPlan | null;
  /** Global. */
  readonly batchSize: number;
  readonly epochs: Epochs;
  readonly maxTrainSteps: number | null;
  readonly recipe: DecayOptions;
  /** Where a worker that is not in step with the chief goes on; the chief looks into its checkpoint. */
  readonly position: Position | null;
  readonly momentum: number;
  /** --enable_lars: that optimizer, with the schedule of this --batch_size. */
  readonly lars: { readonly flagBatchSize: number } | null;
  /** Share of the labels' probability that is spread over all classes. */
  readonly labelSmoothing: number;
  readonly weightDecay: number;
  /** Variables whose name contains this text do not decay; null: all do. */
  readonly decayExcept: string | null;
  readonly lossScale: number | 'dynamic';
  /** Null: nothing to train on, or one batch of made-up images instead of files. */
  readonly train: DataSet | null;
  readonly validation: DataSet | null;
  /** Train the dense layer alone. */
  readonly fineTune: boolean;
  /** Checkpoint (or folder of one) that all but the dense layer begins with; null: none. */
  readonly pretrained: string | null;
  readonly randomFlip: boolean;
  readonly batchNormDecay: number;
  readonly inputThreads: number;
  readonly inputAhead: number;
  readonly stopThreshold: number | null;
  readonly saveSeconds: number | null;
  readonly saveSteps: number | null;
  readonly keepCheckpointMax: number;
  readonly checkpointFormat: RunFormatName;
  readonly dtype: ActivationType;
  /** Report every step (hooks want them), not only a few a second. */
  readonly reportEveryStep: boolean;
  readonly profile: ProfileOptions;
  /** Event files are written: evaluations tell what was taken for what, too, and train calls show their first pictures. */
  readonly summaries: boolean;
  /** Steps from one set of histograms to the next; 0: none. */
  readonly histogramSteps: number;
}

/** What replica 0 tells the main thread. */
export type ReplicaMessage =
  | { readonly kind: 'log'; readonly line: string /** The Model Garden's own. */; readonly detail?: boolean }
  | { readonly kind: 'call begins' | 'call ends'; readonly globalStep: number }
  | ({ readonly kind: 'step' } & StepReport)
  | { readonly kind: 'summary'; readonly summary: SummaryReport }
  | { readonly kind: 'timeline'; readonly timeline: Timeline }
  | { readonly kind: 'evaluation'; readonly result: EvaluationResult; readonly details: EvaluationDetails | null }
  | { readonly kind: 'checkpoint'; readonly path: string; readonly globalStep: number };

export interface ReplicaResult {
  readonly evaluation: EvaluationResult | null;
  readonly globalStep: number;
  readonly checkpoint: string | null;
  readonly interrupted: boolean;
  /** Milliseconds that training took, and that it waited for input of these. */
  readonly trainMs: number;
  readonly waitMs: number;
  /** Resident memory of the process in bytes, sampled at the first report and at the end. */
  readonly residentBytes: readonly number[];
}
