/**
 * How every strategy begins `run`, before anything is started or joined: what it was given is checked, and its devices divide the cores
 * as the options say.
 */
import { host } from '#host';
import { type DeviceDescription, resolveDevices } from '../devices/device.js';
import { checkMessage } from '../replica/check-message.js';
import { checkModule } from '../replica/replica-module.js';
import type { RunOptions } from '../replica/run-replicas.js';
import { remarkOnBackend } from './backend-remark.js';

/** setTimeout counts milliseconds in 31 bits, and takes more for 1. */
const LONGEST_SECONDS = Math.floor((2 ** 31 - 1) / 1000);

/**
 * @param devices the strategy's
 * @param log where a warning goes; null in a process for which another one speaks.
 * @returns the devices of this run, and the module's URL.
 * @throws RangeError, TypeError naming the option or argument and what was given; Error in a replica that would start itself.
 */
export function prepareRun(
  devices: readonly DeviceDescription[],
  module: URL | string,
  args: unknown,
  options: RunOptions,
  log: ((line: string) => void) | null,
): { devices: DeviceDescription[]; url: string } {
  host.checkThreads();
  checkOptions(options);
  const own = resolveDevices(
    devices.map(({ name }) => name),
    options.threadsPerReplica,
  );
  const url = checkModule(module);
  checkMessage(args, 'the arguments of strategy.run()');
  if (log) remarkOnBackend(own, url, log);
  return { devices: own, url };
}

/** A limit that is no number would be no limit, or end at once. */
function checkOptions({ onReport, summary, signal, graceSeconds, timeoutSeconds, bindThreads }: RunOptions): void {
  checkSeconds('timeoutSeconds', timeoutSeconds, (value) => value > 0);
  // Without a limit: as long as a step takes.
  if (graceSeconds !== Number.POSITIVE_INFINITY) checkSeconds('graceSeconds', graceSeconds, (value) => value >= 0);
  if (summary !== undefined && typeof summary?.add !== 'function') {
    throw new TypeError(
      `summary must be something that takes summaries, got ${typeof summary}.\nhelp: summaryFiles(folder) of @lockstep/official writes TensorBoard's files.`,
    );
  }
  if (onReport !== undefined && typeof onReport !== 'function') {
    throw new TypeError(`onReport must be a function, got ${typeof onReport}.`);
  }
  if (bindThreads !== undefined && typeof bindThreads !== 'boolean') {
    throw new TypeError(`bindThreads must be true or false, got ${String(bindThreads)}.`);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new TypeError(`signal must be an AbortSignal, got ${typeof signal}.\nhelp: new AbortController().signal`);
  }
}

function checkSeconds(name: string, value: number | undefined, isGood: (value: number) => boolean): void {
  if (value === undefined) return;
  if (typeof value === 'number' && isGood(value) && value <= LONGEST_SECONDS) return;
  throw new RangeError(
    `${name} must be a number of seconds, at most ${LONGEST_SECONDS.toLocaleString('en')} (24 days), got ${String(value)}.`,
  );
}
