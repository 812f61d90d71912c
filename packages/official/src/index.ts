/**
 * @lockstep/official: the Model Garden's official ResNet as a library. A main takes what a command line has and returns its exit status; the
 * rest of the package's files can be imported one by one (`@lockstep/official/resnet/…`), under the Model Garden's names.
 */
export { type Cifar10Data, DataError, openCifar10 } from './data/cifar10-data.js';
export type {
  Batch,
  DataSet,
  ExampleReader,
  ExampleReaderFactory,
  ExampleReference,
  InputSource,
  ReaderOptions,
} from './data/data-set.js';
export { type DownloadIo, main as downloadCifar10Main } from './resnet/cifar10-download-and-extract.js';
export { main as cifar10Main } from './resnet/cifar10-main.js';
export { type ExportedModel, type ExportOptions, exportResnet } from './resnet/export/export-resnet.js';
export type { ModelFacts } from './resnet/export/trained-resnet.js';
export { main as imagenetMain } from './resnet/imagenet-main.js';
export { main as kerasCifar10Main } from './resnet/keras/keras-cifar-main.js';
export type { BatchTimestamp, KerasStats } from './resnet/keras/keras-common.js';
export { main as kerasImagenetMain } from './resnet/keras/keras-imagenet-main.js';
export type { KerasIo } from './resnet/keras/keras-main.js';
export { CIFAR10_RECIPE, IMAGENET_RECIPE, type TrainingRecipe } from './resnet/lr-schedule.js';
export type { ReplicaResult } from './resnet/replica/arguments.js';
export { defineCifarFlags, defineImagenetFlags } from './resnet/resnet-flags.js';
export { type MainIo, type ResnetProgram, runProgram } from './resnet/resnet-main.js';
export { cifar10Plan, imagenetPlan, type ResNetPlan } from './resnet/resnet-model.js';
export { type ResnetMainOptions, type ResnetMainResult, resnetMain } from './resnet/resnet-run-loop.js';
export { type SummaryFiles, summaryFiles, type TensorBoardOptions, tensorBoard } from './summary/summary-files.js';
export {
  type ExportFile,
  type ModelDescription,
  type Preprocessing,
  QUANTIZATIONS,
  type Quantization,
} from './utils/export/export.js';
export type { ExportFormatName } from './utils/export/formats.js';
export { FlagValues, parseFlags, UsageError } from './utils/flags/core.js';
export type { Histogram } from './utils/logs/histogram.js';
export type { StepValues, TrainHook } from './utils/logs/hooks.js';
export type { Log } from './utils/logs/log.js';
export {
  BaseBenchmarkLogger,
  type LoggerOptions,
  type Metric,
  type MetricOptions,
  type RunStatus,
} from './utils/logs/logger.js';
export type { MachineConfig, RunInfo, RunInfoOptions, RunParameter } from './utils/logs/run-info.js';
export type {
  EvaluationDetails,
  EvaluationResult,
  RunObserver,
  SampleImage,
  StepReport,
  SummaryReport,
} from './utils/logs/run-observer.js';
export type { Timeline, TraceEvent } from './utils/logs/timeline.js';
export { createScreen, type Screen, type ScreenOptions } from './utils/progress/screen.js';
