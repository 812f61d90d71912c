/**
 * Chooses what replicas compute on, before a command starts: oneDNN, unless --backend=cpu asks for TensorFlow.js' own. Never
 * in silence: without the library the command ends with what to install.
 */
import { registerDeviceProvider } from '@lockstep/distribute';

/** @throws OneDnnNotFoundError when oneDNN is wanted and not installed. */
export async function registerBackend(argv: readonly string[]): Promise<void> {
  // Who asks for help may have nothing installed yet.
  if (wantsCpu(argv) || argv.some((word) => /^--?(h|help|helpfull)(=|$)/.test(word))) return;
  const { deviceProvider, loadLibrary } = await import('@lockstep/onednn');
  loadLibrary();
  registerDeviceProvider(deviceProvider);
}

/** Looks ahead of the flag parser: the provider must be registered before flags are checked against devices. */
function wantsCpu(argv: readonly string[]): boolean {
  const at = argv.findLastIndex((word) => /^--?backend(=|$)/.test(word));
  if (at < 0) return false;
  const word = argv[at] as string;
  return (word.includes('=') ? word.slice(word.indexOf('=') + 1) : argv[at + 1]) === 'cpu';
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
