/**
 * What a strategy says of the backend that its replicas compute on: its name in the strategy's line, and one warning in a process
 * whose replicas got TensorFlow.js' own `cpu` although nobody asked for it. This package imports no other backend; it names the
 * one that the advice is about.
 */
import { host } from '#host';
import { type DeviceDescription, isCpuMeant } from '../devices/device.js';

const FAST = '@lockstep/onednn';

/** What computes on these devices: 'onednn'; with several kinds of devices 'cuda, onednn'. */
export function backendsOf(devices: readonly DeviceDescription[]): string {
  return [...new Set(devices.map(({ provider }) => provider))].join(', ');
}

let isSaid = false;

/**
 * Warns, once in a process, of replicas on `cpu` that could be faster, with what to do.
 * @param module URL of what the replicas run: where it stands, packages are found that it could import.
 */
export function remarkOnBackend(
  devices: readonly DeviceDescription[],
  module: string,
  log: (line: string) => void,
): void {
  if (isSaid || !devices.some(({ provider }) => provider === 'cpu')) return;
  if (isCpuMeant()) return;
  const isInstalled = host.canImport(FAST, module);
  if (isInstalled === null) return;
  isSaid = true;
  log(
    "warning: replicas compute on TensorFlow.js' own backend 'cpu', where a convolution takes hundreds of times as long as on " +
      `oneDNN.\n${advice(isInstalled)}\n` +
      "A program that means 'cpu' says so: unregisterDeviceProvider('onednn').",
  );
}

function advice(isInstalled: boolean): string {
  const write = `write \`import '${FAST}';\` in the program that calls strategy.run()`;
  return isInstalled ? `help: ${write}.` : `help: \`npm install ${FAST}\`, then ${write}.`;
}
