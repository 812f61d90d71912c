/**
 * Chooses what replicas compute on, as soon as a command's flags are parsed and before they are checked against devices: oneDNN,
 * unless --backend=cpu asks for TensorFlow.js' own. Never in silence: without the library the command ends with what to install.
 */
import { unregisterDeviceProvider } from '@lockstep/distribute';
import type { FlagValues } from '@lockstep/official/utils/flags/core';

/**
 * @param flags with `backend` among them, parsed
 * @throws OneDnnNotFoundError when oneDNN is wanted and not installed.
 */
export async function registerBackend(flags: FlagValues): Promise<void> {
  if (flags.get('backend') === 'cpu') unregisterDeviceProvider('onednn');
  // Its import is what registers its devices.
  else (await import('@lockstep/onednn')).loadLibrary();
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
