/**
 * What the board answers: figures as JSON, and a stream that says which runs have changed. The page's own files, the address and who may ask
 * are the web server's business (web/static-server.ts). Nobody names a path here: runs have numbers, series have tags, timelines have steps.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RequestHandler, type StaticServer, startStaticServer } from '../web/static-server.js';
import type { ChangeNote, SeriesAnswer } from './protocol.js';
import type { Run } from './run.js';
import { Runs } from './runs.js';

/** The page as the build made it (scripts/build-pages.mjs). */
export const PAGE_FOLDER = fileURLToPath(new URL('./page/', import.meta.url));

/** TensorBoard's is 6006; both may run. */
export const PORT = 6007;
/** From one look at the files to the next, while somebody watches. */
const LOOK_MS = 1000;
/** A stream that says nothing may be taken for a dead one. */
const ALIVE_MS = 15_000;
/** The first answer waits so long for the files. */
const FIRST_WAIT_MS = 800;
const MAX_POINTS = 5000;
/** Of all series of an answer. */
const ALL_POINTS = 4_000_000;
const MAX_TIMELINE_BYTES = 64 * 2 ** 20;
/** Of one watcher that does not listen. */
const MAX_UNHEARD = 2 ** 16;

export interface BoardOptions {
  /** Of runs; it may not be there yet. */
  readonly folder: string;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** 0: a free one. Default {@link PORT}, or a free one where that is taken. */
  readonly port?: number;
}

export interface Board extends StaticServer {
  readonly runs: Runs;
}

/** @throws Error naming the address where it cannot be listened at, and what to do */
export async function startBoard({ folder, ...where }: BoardOptions): Promise<Board> {
  const runs = new Runs(folder);
  const watch = new Watch(runs);
  const start = (port: number) =>
    startStaticServer({ ...where, port, root: PAGE_FOLDER, handlers: handlersOf(runs, watch) });
  const { url, close } = await start(where.port ?? PORT).catch((error: Error) => {
    const isTaken = (error.cause as NodeJS.ErrnoException | undefined)?.code === 'EADDRINUSE';
    if (where.port === undefined && isTaken) return start(0);
    watch.end();
    throw error;
  });
  return {
    url,
    runs,
    close: async () => {
      watch.end();
      await close();
    },
  };
}

function handlersOf(runs: Runs, watch: Watch): Record<string, RequestHandler> {
  const query = ({ url }: IncomingMessage) => new URL(url ?? '/', 'http://board').searchParams;
  /** What is asked of one run. */
  const ofRun =
    (answer: (response: ServerResponse, run: Run, asked: URLSearchParams) => void): RequestHandler =>
    (request, response) => {
      const asked = query(request);
      const run = runs.byId(numberOf(asked.get('run')) ?? -1);
      if (run) answer(response, run, asked);
      else send(response, 404, 'text/plain', 'There is no such run.');
    };
  return {
    '/api/runs': async (_, response) => {
      await Promise.race([runs.refresh(), new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS))]);
      sendJson(response, { ...runs.answer(), ...(runs.problem !== null && { problem: runs.problem }) });
    },
    '/api/series': (request, response) => sendJson(response, seriesOf(runs, query(request))),
    '/api/changes': (request, response) => watch.add(request, response),
    '/api/run': ofRun((response, run) => sendJson(response, run.details)),
    '/api/image': ofRun((response, run, asked) => sendImage(response, run, asked.get('tag') ?? '')),
    '/api/timeline': ofRun((response, run, asked) => sendTimeline(response, run, asked.get('steps') ?? '')),
  };
}

/** Who is told of changes, by Server-Sent Events: `data: {"runs": [ids]}`. While nobody is, nothing is read. */
class Watch {
  readonly #watchers = new Set<ServerResponse>();
  #looking: NodeJS.Timeout | null = null;
  readonly #alive = setInterval(() => {
    for (const one of this.#watchers) one.write(': alive\n\n');
  }, ALIVE_MS).unref();

  constructor(private readonly runs: Runs) {}

  add(request: IncomingMessage, response: ServerResponse): void {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    if (request.method === 'HEAD') {
      response.end();
      return;
    }
    response.write('retry: 2000\n\n');
    this.#watchers.add(response);
    request.on('close', () => this.#watchers.delete(response));
    if (this.#looking === null) this.#lookSoon();
  }

  end(): void {
    clearInterval(this.#alive);
    if (this.#looking) clearTimeout(this.#looking);
    for (const one of this.#watchers) one.end();
    this.#watchers.clear();
  }

  #lookSoon(): void {
    this.#looking = setTimeout(async () => {
      const runs = await this.runs.refresh();
      this.#looking = null;
      if (runs.length > 0) this.#push({ runs });
      if (this.#watchers.size > 0) this.#lookSoon();
    }, LOOK_MS);
  }

  #push(note: ChangeNote): void {
    for (const one of this.#watchers) {
      if (one.writableLength > MAX_UNHEARD) one.destroy();
      else one.write(`data: ${JSON.stringify(note)}\n\n`);
    }
  }
}

/** `run=1,4-7&tag=loss&tag=…&points=500&from=…&to=…`: what there is of them. */
export function seriesOf(runs: Runs, query: URLSearchParams): SeriesAnswer[] {
  const [ids, tags] = [idsOf(runs, query), query.getAll('tag')];
  const most = Math.min(MAX_POINTS, Math.floor(ALL_POINTS / Math.max(1, ids.length * tags.length)));
  const points = Math.max(2, Math.min(most, numberOf(query.get('points')) ?? 500));
  const from = numberOf(query.get('from')) ?? Number.NEGATIVE_INFINITY;
  const to = numberOf(query.get('to')) ?? Number.POSITIVE_INFINITY;
  const answers: SeriesAnswer[] = [];
  for (const id of ids) {
    const run = runs.byId(id);
    for (const tag of tags) {
      const series = run?.series.get(tag);
      if (run && series) answers.push({ run: run.id, tag, ...series.sample(points, from, to) });
    }
  }
  return answers;
}

/** Numbers, and ranges of them: a thousand runs are not to be a long address. */
function idsOf(runs: Runs, query: URLSearchParams): number[] {
  const ranges = query.getAll('run').flatMap((text) => text.split(','));
  const wanted = ranges.flatMap((text) => {
    const [, first, last = first] = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(text) ?? [];
    return first === undefined ? [] : [[Number(first), Number(last)] as const];
  });
  return runs.all.map(({ id }) => id).filter((id) => wanted.some(([first, last]) => first <= id && id <= last));
}

/** Only a format that browsers draw, told by its first bytes: what a file says it is counts for nothing. */
function sendImage(response: ServerResponse, run: Run, tag: string): void {
  const image = run.images.get(tag);
  const type = image && imageType(image.bytes);
  if (image && type) send(response, 200, type, image.bytes);
  else send(response, 404, 'text/plain', 'There is no such picture.');
}

export function imageType(bytes: Uint8Array): string | null {
  const begin = Buffer.from(bytes.subarray(0, 4)).toString('latin1');
  if (begin === '\x89PNG') return 'image/png';
  if (begin.startsWith('\xff\xd8')) return 'image/jpeg';
  return begin === 'GIF8' ? 'image/gif' : null;
}

/** One that is in the listing, so that nothing of a path comes from outside; and no link. */
function sendTimeline(response: ServerResponse, run: Run, steps: string): void {
  if (run.timelines.includes(steps)) send(response, 200, 'application/json', readTimeline(run, steps));
  else send(response, 404, 'text/plain', 'There is no such timeline.');
}

/** @throws the system's error, or where the file is too large to be one */
export function readTimeline(run: Run, steps: string): Buffer {
  const path = join(run.folder, `timeline-${steps}.json`);
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stats = fstatSync(descriptor);
    if (!stats.isFile() || stats.size > MAX_TIMELINE_BYTES) throw new Error('The timeline is too large to be shown.');
    return readFileSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function numberOf(text: string | null): number | null {
  if (text === null || !/^-?\d{1,16}(\.\d{1,16})?$/.test(text)) return null;
  return Number(text);
}

function sendJson(response: ServerResponse, value: unknown): void {
  send(response, 200, 'application/json', JSON.stringify(value));
}

function send(response: ServerResponse, status: number, type: string, body: string | Uint8Array): void {
  const charset = type.startsWith('text/') || type === 'application/json' ? '; charset=utf-8' : '';
  response.writeHead(status, { 'Content-Type': `${type}${charset}`, 'Content-Length': Buffer.byteLength(body) });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}
