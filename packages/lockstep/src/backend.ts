/**
 * Chooses what replicas compute on, as soon as a command's flags are parsed and before they are checked against devices: GPUs, if the
 * command asks for any; else oneDNN, unless --backend=cpu asks for TensorFlow.js' own. Never in silence: without the library, or without
 * the GPUs, the command ends with what to install.
 */
import type { FlagValues } from '@lockstep/official/utils/flags/core';

/**
 * @param flags with `backend` among them, parsed
 * @throws OneDnnNotFoundError when oneDNN is wanted and not installed.
 */
export async function registerBackend(flags: FlagValues): Promise<void> {
  const numGpus = flags.has('num_gpus') ? flags.get('num_gpus') : 0;
  if (numGpus !== 0) await offerGpus();
  // All replicas are on GPUs then, or there is an error about those that are not there.
  if (numGpus > 0) return;
  if (flags.get('backend') === 'cpu') (await import('@lockstep/distribute')).unregisterDeviceProvider('onednn');
  // Its import is what registers its devices.
  else (await import('@lockstep/onednn')).loadLibrary();
}

/** GPUs become devices, if the package that finds them is installed. */
export async function offerGpus(): Promise<void> {
  try {
    await import('@lockstep/webgpu');
  } catch (error) {
    // One that is installed and does not load is not the same as none.
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ERR_MODULE_NOT_FOUND' || !message.includes("'@lockstep/webgpu'")) throw error;
  }
}

/** Runs a command's body; an error becomes its message on standard error and status 1. */
export async function reportErrors(body: () => Promise<number>): Promise<number> {
  try {
    return await body();
  } catch (error) {
    const { message, stack } = error instanceof Error ? error : { message: String(error), stack: undefined };
    process.stderr.write(`${process.env.LOCKSTEP_STACK ? (stack ?? message) : message}\n`);
    return 1;
  }
}
