/*
 * The public face of the flag system: upstream's `official/utils/flags/core.py`. Programs import this file alone. Every
 * define function takes its switches first and the FlagValues to define into last; without one it is the default
 * instance `flags`. A program that may run twice in one process (a test, or `main` called by another command) makes a
 * FlagValues of its own.
 *
 *   const flags = new FlagValues({ program: 'lockstep cifar10' });
 *   defineBase({ num_gpu: false }, flags);
 *   const { help } = parseFlags(process.argv.slice(2), flags);
 *   if (help) process.stdout.write(help.text);
 *   else train(flags.FLAGS.batch_size);
 */
import * as base from './base.js';
import * as benchmark from './benchmark.js';
import * as device from './device.js';
import { type FlagsObject, type FlagTypes, FlagValues, type ParseOptions, type ParseResult } from './flag-values.js';
import * as lockstep from './lockstep.js';
import * as misc from './misc.js';
import * as performance from './performance.js';

export type { ColorMode, ProgressMode } from '@lockstep/distribute/progress';
export type { BaseSwitches, DeviceLister } from './base.js';
export { getNumGpus, HOOK_NAMES } from './base.js';
export type { BenchmarkLoggerType, BenchmarkSwitches } from './benchmark.js';
export { helpWrap } from './conventions.js';
export type { DeviceSwitches } from './device.js';
export { FlagDefinitionError, UsageError, type UsageErrorDetails } from './errors.js';
export type { FlagDefinition, FlagKind, FlagValue } from './flag.js';
export type {
  DefineNumberOptions,
  DefineOptions,
  FlagsObject,
  FlagTypes,
  HelpRequest,
  MultiFlagsValidator,
  ParseOptions,
  ParseResult,
  Validator,
} from './flag-values.js';
export { FlagValues } from './flag-values.js';
export type { ProgramDescription } from './help.js';
export { getProfileSteps, type LockstepSwitches, whyNoProfile } from './lockstep.js';
export type { DataFormat, ImageSwitches } from './misc.js';
export type { DtypeName, PerformanceSwitches, TfDtype } from './performance.js';
export { DTYPE_MAP, getLossScale, getTfDtype } from './performance.js';

/** The default instance, absl's single namespace. It begins without any flag. */
export const flags = new FlagValues();

/** The values of the default instance by name; reading before parseFlags is an error. */
export const flagsObj: FlagsObject = flags.FLAGS;

function adopt(into: FlagValues, keyFlags: string[]): string[] {
  into.declareKeyFlags(keyFlags);
  return keyFlags;
}

/** Defines data_dir, model_dir, clean, train_epochs, … (base.ts) and marks the key flags. @returns the key flags. */
export function defineBase(switches: base.BaseSwitches = {}, into: FlagValues = flags): string[] {
  return adopt(into, base.defineBase(into, switches));
}

/** defineBase without epochs_between_evals, stop_threshold and hooks, which eager programs do not have. */
export function defineBaseEager(switches: base.BaseSwitches = {}, into: FlagValues = flags): string[] {
  return defineBase({ ...switches, epochs_between_evals: false, stop_threshold: false, hooks: false }, into);
}

/** Defines threads, dtype, synthetic data, all-reduce, … (performance.ts). @returns the key flags (none). */
export function definePerformance(switches: performance.PerformanceSwitches = {}, into: FlagValues = flags): string[] {
  return adopt(into, performance.definePerformance(into, switches));
}

/** Defines data_format (misc.ts) and marks it as key flag. @returns the key flags. */
export function defineImage(switches: misc.ImageSwitches = {}, into: FlagValues = flags): string[] {
  return adopt(into, misc.defineImage(into, switches));
}

/** Defines the benchmark logger's flags (benchmark.ts). @returns the key flags (none). */
export function defineBenchmark(switches: benchmark.BenchmarkSwitches = {}, into: FlagValues = flags): string[] {
  return adopt(into, benchmark.defineBenchmark(into, switches));
}

/** Defines the TPU flags (device.ts) and marks the key flags. @returns the key flags. */
export function defineDevice(switches: device.DeviceSwitches = {}, into: FlagValues = flags): string[] {
  return adopt(into, device.defineDevice(into, switches));
}

/** Defines Lockstep's own flags (lockstep.ts), all of them key flags. @returns the key flags. */
export function defineLockstep(switches: lockstep.LockstepSwitches = {}, into: FlagValues = flags): string[] {
  return adopt(into, lockstep.defineLockstep(into, switches));
}

/** Requires `gs://` paths in the named flags where --tpu is set (device.ts). */
export function requireCloudStorage(
  flagNames: readonly string[],
  into: FlagValues = flags,
  logError?: (line: string) => void,
): void {
  device.requireCloudStorage(into, flagNames, logError);
}

/** Replaces defaults; values from the command line still win. @throws FlagDefinitionError for an unknown flag. */
export function setDefaults(defaults: Partial<FlagTypes> & Record<string, unknown>, into: FlagValues = flags): void {
  into.setDefaults(defaults);
}

/**
 * Forgets earlier values and reads a command line (without program name; default: none).
 *
 * @returns `help` if the person asked for it: print its text and exit with 0.
 * @throws UsageError, whose message holds flag, value and remedy: print it and exit with 2.
 */
export function parseFlags(
  argv: readonly string[] = [],
  into: FlagValues = flags,
  options?: ParseOptions,
): ParseResult {
  return into.parse(argv, options);
}
