/*
 * Every way in which a run is told to stop, as one AbortSignal: Ctrl-C, SIGTERM, a terminal that closes (SIGHUP), a limit on
 * processor time (SIGXCPU), a launcher's SIGUSR2, and standard error that nobody reads any more. The run ends after its step
 * or batch of an evaluation and saves, however long that takes; a second signal ends the process at once.
 *
 * A full disk under standard error is none of these: lines are lost, and training goes on.
 */
import { launchedProcess } from '@lockstep/distribute';

/** Exit status of an interrupted run, as a shell has it for Ctrl-C. */
export const INTERRUPTED = 130;

/** npx and launchers hand one signal on beside the one that the process group gets: within this time it is the same one. */
const SAME_SIGNAL_MS = 1_000;
/** How often a person hears that the step has not ended yet. */
const REMINDER_MS = 30_000;

/** Where a run is told to stop, and how its listener is taken away. */
export interface Interrupt {
  readonly signal: AbortSignal;
  stop(): void;
}

/**
 * Signals by which a person or a system asks a process to end, in a way that leaves it time. `lockstep launch` sends
 * SIGUSR2, which mpirun hands on to all ranks and which, unlike Ctrl-C, does not make it end them soon after.
 */
const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGXCPU'];

/** Tells the first request to stop from its echo and from another one. */
export class StopRequests {
  #firstAt: number | null = null;

  /** Takes one in. */
  take(): 'first' | 'same' | 'again' {
    const now = performance.now();
    if (this.#firstAt !== null) return now - this.#firstAt < SAME_SIGNAL_MS ? 'same' : 'again';
    this.#firstAt = now;
    return 'first';
  }
}

/** Listens until `stop()`. @param voice Says a line to a person. @param saves Whether a run that stops leaves a checkpoint. */
export function listenForInterrupt(voice: { say(line: string): void }, saves = true): Interrupt {
  const signals: NodeJS.Signals[] = [...SIGNALS, ...(launchedProcess() ? (['SIGUSR2'] as const) : [])];
  const controller = new AbortController();
  const requests = new StopRequests();
  let reminder: NodeJS.Timeout | undefined;
  const end = () => controller.abort(new Error('Interrupted.'));
  const onSignal = () => {
    const which = requests.take();
    if (which === 'same') return;
    if (which === 'again') process.exit(INTERRUPTED);
    const begin = performance.now();
    const saved = saves ? 'a checkpoint will be saved' : 'nothing is saved';
    voice.say(`Stopping after this step; ${saved}. Press Ctrl-C again to stop at once.`);
    reminder = setInterval(() => {
      const seconds = ((performance.now() - begin) / 1000).toFixed(0);
      voice.say(
        `Still stopping after ${seconds} s: the step has not ended yet. Ctrl-C stops at once${saves ? ', and saves nothing' : ''}.`,
      );
    }, REMINDER_MS).unref();
    end();
  };
  for (const signal of signals) process.on(signal, onSignal);
  const release = surviveBrokenOutput(() => {
    if (requests.take() === 'first') end();
  });
  return {
    signal: controller.signal,
    stop: () => {
      clearInterval(reminder);
      release();
      // What a launcher sends reaches the ranks one after the other: one that already stopped, because another was told to,
      // would die of it instead of ending with its own status.
      if (signals.includes('SIGUSR2')) process.on('SIGUSR2', () => {});
      for (const signal of signals) process.off(signal, onSignal);
    },
  };
}

/** Without a listener an error of standard output or error ends the process, in the middle of whatever it does. */
let survives = false;
const unread = new Set<() => void>();

/**
 * Keeps the process going when standard output or error cannot be written to: for good, because its last lines come after
 * everything else.
 * @param onUnread Called, until the returned function is, when what read standard error is gone.
 */
export function surviveBrokenOutput(onUnread: () => void = () => {}): () => void {
  if (!survives) {
    survives = true;
    process.stdout.on('error', () => {});
    process.stderr.on('error', ({ code }: NodeJS.ErrnoException) => {
      if (code === 'EPIPE') for (const listener of [...unread]) listener();
    });
  }
  unread.add(onUnread);
  return () => unread.delete(onUnread);
}
