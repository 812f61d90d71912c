/**
 * The Host that a browser is: replicas are Web Workers, which print to the console by themselves. They share memory, so the page has to be
 * cross-origin isolated. Threads cannot be bound, there are no files, and a bundler puts the worker's code beside the page's.
 */
import type { Host, ThreadEvents } from './host.js';

/** What of a browser's globals is used here; TypeScript declares them only together with a whole DOM. */
interface WebWorker {
  onmessage: ((event: { data: unknown }) => void) | null;
  onmessageerror: (() => void) | null;
  onerror: ((event: { message?: string; filename?: string; lineno?: number; preventDefault?(): void }) => void) | null;
  postMessage(message: unknown): void;
  terminate(): void;
}
interface WebGlobal {
  readonly navigator: { readonly hardwareConcurrency: number };
  readonly crossOriginIsolated?: boolean;
  readonly Worker: new (url: URL, options: { type: 'module'; name: string }) => WebWorker;
  addEventListener?(type: 'message', listener: (event: { data: unknown }) => void): void;
  postMessage(message: unknown): void;
}
const web = globalThis as unknown as WebGlobal;

const CPU_BACKEND = 'lockstep:cpu-backend';
/** The first message that a worker gets. */
const START = 'lockstep start';
/** A worker's last message: there is none when a Web Worker ends. */
const LAST = ['result', 'error'];

/** In a worker: its first message, which may come before anybody asks for it. A page's own worker keeps its `onmessage`. */
const started = new Promise<unknown>((resolve) => {
  if ('document' in globalThis) return;
  web.addEventListener?.('message', ({ data }) => {
    const { kind, data: own } = (data ?? {}) as { kind?: string; data?: unknown };
    if (kind === START) resolve(own);
  });
});

/** A Web Worker tells nobody of its end, so what it says last, or that it is terminated, counts as that. */
function startWorker(data: unknown, name: string, { onMessage, onError, onExit }: ThreadEvents) {
  // Written like this, bundlers see that it is a file of its own.
  const worker = new web.Worker(new URL('./replica-worker.js', import.meta.url), { type: 'module', name });
  let isOver = false;
  const end = (code: number) => {
    if (isOver) return;
    isOver = true;
    worker.terminate();
    queueMicrotask(() => onExit(code));
  };
  worker.onmessage = ({ data: message }) => {
    onMessage(message);
    if (LAST.includes((message as { type?: string }).type ?? '')) end(0);
  };
  worker.onmessageerror = () => onError(new Error('A message could not be read.'));
  worker.onerror = (event) => {
    event.preventDefault?.();
    const where = event.filename ? ` (${event.filename}:${event.lineno})` : '';
    onError(
      new Error(
        event.message
          ? `${event.message}${where}`
          : `The file of its thread, ${new URL('./replica-worker.js', import.meta.url).href}, could not be loaded.\n` +
              "help: give the bundler '@lockstep/distribute/replica-worker' as another entry, whose output is replica-worker.js beside the " +
              'page’s; docs/replicas-in-a-browser.md has the whole command.',
      ),
    );
    end(1);
  };
  worker.postMessage({ kind: START, data });
  return { terminate: () => end(1), unref: () => {} };
}

export const host: Host = {
  allowedCpus: () => Array.from({ length: web.navigator.hardwareConcurrency || 1 }, (_, cpu) => cpu),
  bindThread: () => false,
  adviseHugePages: () => {},
  parallelism: () => web.navigator.hardwareConcurrency || 1,
  readText: () => null,
  readKernels: () => null,
  log: (line) => console.info(line),
  inspect(value) {
    try {
      return JSON.stringify(value) ?? String(value);
    } catch {
      return String(value);
    }
  },
  toBase64(bytes) {
    let text = '';
    for (const byte of bytes) text += String.fromCharCode(byte);
    return btoa(text);
  },
  fromBase64: (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)),
  /** Only until the body returns: browsers cannot follow asynchronous calls yet. */
  scope<T>() {
    let current: T | undefined;
    return {
      run<Result>(value: T, body: () => Result): Result {
        const before = current;
        current = value;
        try {
          return body();
        } finally {
          current = before;
        }
      },
      get: () => current,
    };
  },
  canImport: () => null,
  cpuBackend: CPU_BACKEND,
  importModule: (url) => (url === CPU_BACKEND ? import('../devices/cpu-backend.js') : import(url)),
  checkThreads() {
    if (web.crossOriginIsolated) return;
    throw new Error(
      'Replicas share memory, which a browser allows to pages that are cross-origin isolated, and this one is not.\n' +
        'help: the server has to send, with the page and its scripts, the headers `Cross-Origin-Opener-Policy: same-origin` and ' +
        '`Cross-Origin-Embedder-Policy: require-corp`; over https, or from localhost.',
    );
  },
  startReplica: (data, { name }, events) => startWorker(data, name, events),
  replicaData: () => started,
  tell: (message) => web.postMessage(message),
  redirectOutput() {},
  writeOutput() {},
};
