/**
 * The board's server: the page's three files, figures as JSON, and a stream that says which runs have changed. It answers to names of this
 * machine alone (a page elsewhere could lead a browser here by a name of its own), takes no path from anybody (runs have numbers, series
 * have tags), and is read-only. Bound to another address than this machine's own it wants a token.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, isIPv6 } from 'node:net';
import { join } from 'node:path';
import { reasonOf } from '@lockstep/official/utils/files/file-errors';
import { type Asset, pageAssets } from './assets.js';
import type { ChangeNote, SeriesAnswer } from './protocol.js';
import type { Run } from './run.js';
import { Runs } from './runs.js';

const LOOPBACK = ['127.0.0.1', '::1', 'localhost'];
/** From one look at the files to the next, while somebody watches. */
const LOOK_MS = 1000;
/** A stream that says nothing may be taken for a dead one. */
const ALIVE_MS = 15_000;
/** The first answer waits so long for the files. */
const FIRST_WAIT_MS = 800;
const MAX_POINTS = 5000;
const MAX_SERIES = 2000;
const MAX_TIMELINE_BYTES = 64 * 2 ** 20;

const HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cache-Control': 'no-store',
} as const;

export interface BoardOptions {
  readonly folder: string;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default 0: a free one. */
  readonly port?: number;
}

/** A server that listens. */
export class Board {
  readonly runs: Runs;
  readonly #server: Server;
  readonly #token: string | null;
  readonly #watchers = new Set<ServerResponse>();
  readonly #assets: ReadonlyMap<string, Asset> = pageAssets();
  readonly #host: string;
  #looking: NodeJS.Timeout | null = null;
  #alive: NodeJS.Timeout | null = null;

  private constructor({ folder, host = LOOPBACK[0] as string }: BoardOptions) {
    this.runs = new Runs(folder);
    this.#host = host;
    this.#token = LOOPBACK.includes(host) ? null : randomBytes(16).toString('hex');
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        if (!response.headersSent) send(response, 500, 'text/plain', reasonOf(error));
        else response.destroy();
      });
    });
  }

  /** @throws Error naming the address where it cannot be listened at, and what to do */
  static async start(options: BoardOptions): Promise<Board> {
    const board = new Board(options);
    const { port = 0 } = options;
    await new Promise<void>((resolve, reject) => {
      board.#server.once('error', reject);
      board.#server.listen({ port, host: board.#host }, resolve);
    }).catch((error: NodeJS.ErrnoException) => {
      const isTaken = error.code === 'EADDRINUSE';
      throw new Error(
        `The board cannot listen at ${board.#host}:${port}: ${isTaken ? 'somebody else does (EADDRINUSE)' : reasonOf(error)}.\n` +
          `help: ${isTaken || error.code === 'EACCES' ? 'choose another --port; 0 takes a free one' : 'give --host an address of this machine'}.`,
        { cause: error },
      );
    });
    return board;
  }

  /** With the token, where one is needed. */
  get url(): string {
    const { port, address } = this.#server.address() as AddressInfo;
    const host = LOOPBACK.includes(this.#host) ? this.#host : address;
    const open = `http://${isIPv6(host) ? `[${host}]` : host}:${port}/`;
    return this.#token === null ? open : `${open}?token=${this.#token}`;
  }

  async close(): Promise<void> {
    if (this.#looking) clearTimeout(this.#looking);
    if (this.#alive) clearInterval(this.#alive);
    for (const one of this.#watchers) one.end();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD');
      return send(response, 405, 'text/plain', 'The board only shows.');
    }
    if (!this.#isMeant(request)) return send(response, 403, 'text/plain', 'This is not a name of the board.');
    const url = new URL(request.url ?? '/', 'http://board');
    if (this.#token !== null && !this.#isLetIn(request, response, url)) return;
    const asset = this.#assets.get(url.pathname);
    if (asset) return send(response, 200, asset.type, asset.bytes);
    switch (url.pathname) {
      case '/api/runs':
        await Promise.race([this.runs.refresh(), new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS))]);
        return sendJson(response, { ...this.runs.answer(), ...(this.runs.problem && { problem: this.runs.problem }) });
      case '/api/series':
        return sendJson(response, seriesOf(this.runs, url.searchParams));
      case '/api/changes':
        return this.#watch(request, response);
      case '/api/run':
      case '/api/image':
      case '/api/timeline': {
        const run = this.runs.byId(numberOf(url.searchParams.get('run')) ?? -1);
        if (!run) return send(response, 404, 'text/plain', 'There is no such run.');
        if (url.pathname === '/api/run') return sendJson(response, run.details);
        return url.pathname === '/api/image'
          ? sendImage(response, run, url.searchParams.get('tag') ?? '')
          : sendTimeline(response, run, numberOf(url.searchParams.get('step')) ?? -1);
      }
      default:
        return send(response, 404, 'text/plain', 'There is nothing here.');
    }
  }

  /** Bound to this machine alone, it is asked for by this machine's names alone. */
  #isMeant({ headers: { host, origin } }: IncomingMessage): boolean {
    if (this.#token !== null) return true;
    const { port } = this.#server.address() as AddressInfo;
    const isOurs = (text: string) => LOOPBACK.some((name) => text === `${isIPv6(name) ? `[${name}]` : name}:${port}`);
    return host !== undefined && isOurs(host) && (origin === undefined || isOurs(origin.replace(/^http:\/\//, '')));
  }

  /** By a cookie, or by the token in the address, which becomes one. */
  #isLetIn(request: IncomingMessage, response: ServerResponse, url: URL): boolean {
    const { port } = this.#server.address() as AddressInfo;
    const name = `lockstep-board-${port}`;
    const cookie = (request.headers.cookie ?? '').split('; ').find((one) => one.startsWith(`${name}=`));
    if (cookie && this.#isToken(cookie.slice(name.length + 1))) return true;
    if (this.#isToken(url.searchParams.get('token') ?? '')) {
      response.setHeader('Set-Cookie', `${name}=${this.#token}; HttpOnly; SameSite=Strict; Path=/`);
      // So that it stays in no history and no picture of the screen.
      response.setHeader('Location', '/');
      send(response, 303, 'text/plain', '');
      return false;
    }
    send(response, 401, 'text/plain', 'The board wants the address that it printed, with its token.');
    return false;
  }

  #isToken(text: string): boolean {
    const [given, wanted] = [Buffer.from(text), Buffer.from(this.#token as string)];
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }

  /** Server-Sent Events: `data: {"runs": [ids]}`. */
  #watch(request: IncomingMessage, response: ServerResponse): void {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write('retry: 2000\n\n');
    this.#watchers.add(response);
    request.on('close', () => this.#watchers.delete(response));
    // Nobody watches, nothing is read.
    if (this.#looking === null) this.#lookSoon();
    this.#alive ??= setInterval(() => {
      for (const one of this.#watchers) one.write(': alive\n\n');
    }, ALIVE_MS).unref();
  }

  #lookSoon(): void {
    this.#looking = setTimeout(async () => {
      const runs = await this.runs.refresh().catch(() => []);
      this.#looking = null;
      if (runs.length > 0) this.#push({ runs });
      if (this.#watchers.size > 0) this.#lookSoon();
    }, LOOK_MS);
  }

  #push(note: ChangeNote): void {
    for (const one of this.#watchers) {
      // Whoever does not listen is not written to without end.
      if (one.writableLength > 2 ** 16) one.destroy();
      else one.write(`data: ${JSON.stringify(note)}\n\n`);
    }
  }
}

/** `run=1&run=2&tag=loss&tag=…&points=500&from=…&to=…`: what there is of them. */
export function seriesOf(runs: Runs, query: URLSearchParams): SeriesAnswer[] {
  const points = Math.min(MAX_POINTS, Math.max(2, numberOf(query.get('points')) ?? 500));
  const from = numberOf(query.get('from')) ?? Number.NEGATIVE_INFINITY;
  const to = numberOf(query.get('to')) ?? Number.POSITIVE_INFINITY;
  const answers: SeriesAnswer[] = [];
  for (const id of query.getAll('run')) {
    const run = runs.byId(numberOf(id) ?? -1);
    for (const tag of query.getAll('tag')) {
      const series = run?.series.get(tag);
      if (!run || !series || answers.length >= MAX_SERIES) continue;
      answers.push({ run: run.id, tag, ...series.sample(points, from, to) });
    }
  }
  return answers;
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

/** One that is in the listing, so the number is all that comes from outside; and no link. */
function sendTimeline(response: ServerResponse, run: Run, step: number): void {
  if (run.timelines.includes(step)) send(response, 200, 'application/json', readTimeline(run, step));
  else send(response, 404, 'text/plain', 'There is no such timeline.');
}

/** @throws the system's error, or where the file is too large to be one */
export function readTimeline(run: Run, step: number): Buffer {
  const path = join(run.folder, `timeline-${step}.json`);
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
