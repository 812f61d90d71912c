/*
 * Hooks by name, as --hooks gives them: upstream's `official/utils/logs/hooks_helper.py`.
 */
import { ExamplesPerSecondHook, LoggingTensorHook, ProfilerHook, type TrainHook } from './hooks.js';
import { type Log, stderrLog } from './log.js';
import { BaseBenchmarkLogger } from './logger.js';
import { LoggingMetricHook } from './metric-hook.js';

/** The values that the logging hooks report. */
export const TENSORS_TO_LOG = ['learning_rate', 'cross_entropy', 'train_accuracy'] as const;

/** What the hooks are built from; each has upstream's default. */
export interface TrainHookOptions {
  /** Folder of ProfilerHook's timelines; needed by that hook alone. */
  modelDir?: string;
  /** Examples per step of this worker, for ExamplesPerSecondHook; default 128. */
  batchSize?: number;
  /** Where metrics go; default: a logger that writes them into `log`. */
  benchmarkLogger?: BaseBenchmarkLogger;
  log?: Log;
  /** A TPU runs no hooks. */
  useTpu?: boolean;
  /** Default TENSORS_TO_LOG. */
  tensorsToLog?: readonly string[];
  /** LoggingTensorHook: default 100. */
  everyNIter?: number;
  /** ExamplesPerSecondHook: default 100. */
  everyNSteps?: number;
  /** ExamplesPerSecondHook: default 5. */
  warmSteps?: number;
  /** ProfilerHook: default 1000. */
  saveSteps?: number;
  /** LoggingMetricHook: default 600. */
  everyNSecs?: number;
}

type HookFactory = (options: TrainHookOptions & { log: Log; benchmarkLogger: BaseBenchmarkLogger }) => TrainHook;

const HOOKS: Readonly<Record<string, HookFactory>> = {
  loggingtensorhook: ({ tensorsToLog = TENSORS_TO_LOG, everyNIter = 100, log }) =>
    new LoggingTensorHook({ tensors: tensorsToLog, everyNIter, log }),
  profilerhook: ({ modelDir, saveSteps, log }) => {
    if (!modelDir) throw new Error('ProfilerHook needs a folder for its timelines. Set --model_dir.');
    return new ProfilerHook({ outputDir: modelDir, ...(saveSteps !== undefined && { saveSteps }), log });
  },
  examplespersecondhook: ({ batchSize = 128, everyNSteps = 100, warmSteps = 5, benchmarkLogger }) =>
    new ExamplesPerSecondHook({ batchSize, everyNSteps, warmSteps, metricLogger: benchmarkLogger }),
  loggingmetrichook: ({ tensorsToLog = TENSORS_TO_LOG, everyNSecs = 600, benchmarkLogger }) =>
    new LoggingMetricHook({ tensors: tensorsToLog, everyNSecs, metricLogger: benchmarkLogger }),
};

/**
 * Builds hooks by name; blanks around a name and the case of its letters do not matter.
 *
 * @throws Error `Unrecognized training hook requested: {}` for an unknown name (a text instead of a list fails so too,
 *   because its letters are taken for names).
 */
export function getTrainHooks(nameList: Iterable<string>, options: TrainHookOptions = {}): TrainHook[] {
  const { log = stderrLog } = options;
  const names = [...nameList];
  if (names.length === 0) return [];
  if (options.useTpu) {
    log.warning(
      `hooks_helper received name_list \`${names.join(',')}\`, but a TPU is specified. No hooks will be used.`,
    );
    return [];
  }
  const benchmarkLogger = options.benchmarkLogger ?? new BaseBenchmarkLogger({ log });
  return names.map((name) => {
    const key = name.trim().toLowerCase();
    const factory = Object.hasOwn(HOOKS, key) ? HOOKS[key] : undefined;
    if (factory === undefined) throw new Error(`Unrecognized training hook requested: ${name}`);
    return factory({ ...options, log, benchmarkLogger });
  });
}
