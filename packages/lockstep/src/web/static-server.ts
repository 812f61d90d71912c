/**
 * A web server for one's own pages on one's own machine: the files of one folder, and what a command answers itself (events, figures), on
 * the loopback address. It gives out nothing that lies outside its folder, whatever the path says or a link leads to, and answers
 * no page of another site: a name that somebody made lead to 127.0.0.1 is refused by its Host header. At another address, which somebody
 * has to ask for, it wants a token with the first request, and knows the browser by a cookie from then on.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, realpath } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, isIPv6 } from 'node:net';
import { extname, isAbsolute, join, relative, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';

/** The address that other machines cannot reach. */
export const LOOPBACK = '127.0.0.1';
const LOOPBACKS = [LOOPBACK, 'localhost', '::1'];

/**
 * What a page may do: load its own files and nothing else, show images that it made, compute in workers. No script in the page's text, no
 * style attribute, no other site.
 */
export const PAGE_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' blob: data:",
  "media-src 'self' blob:",
  "font-src 'self'",
  "connect-src 'self'",
  "worker-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

const HEADERS: Readonly<Record<string, string>> = {
  // Of those, a page's own <meta> cannot say the last.
  'Content-Security-Policy': `${PAGE_POLICY}; frame-ancestors 'none'`,
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Permissions-Policy': 'camera=(self), microphone=(), geolocation=()',
  // What is served is being made anew all the time.
  'Cache-Control': 'no-store',
};

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.webp': 'image/webp',
  '.ico': 'image/x-icon',
};
const OTHER_TYPE = 'application/octet-stream';

/** What a file is, by its name. */
export function contentType(name: string): string {
  return TYPES[extname(name).toLowerCase()] ?? OTHER_TYPE;
}

/** Answers a GET or HEAD of its path; the headers that every answer has are set already. */
export type RequestHandler = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

export interface StaticServerOptions {
  /** Folder whose files are served, those whose name begins with a dot left out; `index.html` for a folder of it. Null: none. */
  readonly root: string | null;
  /** What is not a file, by path: `{ '/events': … }`. They go first. */
  readonly handlers?: Readonly<Record<string, RequestHandler>>;
  /** Default 0: any that is free. */
  readonly port?: number;
  /** Address of this machine to listen at. Default {@link LOOPBACK}; at any but the loopback's a token is drawn and wanted. */
  readonly host?: string;
}

export interface StaticServer {
  /** 'http://127.0.0.1:4711/'; with `?token=…` where one is wanted */
  readonly url: string;
  /** Ends it, and connections that are open still. */
  close(): Promise<void>;
}

/** @throws Error if the folder is not there, or the port or the address is taken, not allowed or not this machine's */
export async function startStaticServer(options: StaticServerOptions): Promise<StaticServer> {
  const { root, handlers = {}, port = 0, host = LOOPBACK } = options;
  const folder = root === null ? null : await realpath(root);
  const token = LOOPBACKS.includes(host) ? null : randomBytes(16).toString('hex');
  const server = createServer((request, response) => {
    answer(request, response, folder, handlers, token).catch((error: Error) => fail(response, 500, error.message));
  });
  await listen(server, port, host);
  const { port: actual, address } = server.address() as AddressInfo;
  const name = host === 'localhost' ? host : isIPv6(address) ? `[${address}]` : address;
  return {
    url: `http://${name}:${actual}/${token === null ? '' : `?token=${token}`}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why =
        { EADDRINUSE: 'another program has it', EACCES: 'this user may not have it' }[error.code ?? ''] ??
        error.message;
      const help = /^E(ADDRINUSE|ACCES)$/.test(error.code ?? '')
        ? '--port=0 takes any that is free'
        : `--host takes an address of this machine, and ${LOOPBACK} without the flag`;
      reject(new Error(`port ${port} of ${host} cannot be used: ${why}.\nhelp: ${help}.`, { cause: error }));
    });
    server.listen(port, host, () => resolve());
  });
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  root: string | null,
  handlers: Readonly<Record<string, RequestHandler>>,
  token: string | null,
): Promise<void> {
  for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
  // Under what names a machine is known on its network is nobody's to say here: the token tells.
  if (token === null && !isOwnHost(request))
    return fail(response, 421, 'This server answers to its own address alone.');
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD');
    return fail(response, 405, 'Only GET and HEAD.');
  }
  if (token !== null && !letIn(request, response, token)) return;
  const path = (request.url ?? '').replace(/[?#].*$/s, '');
  const handler = Object.hasOwn(handlers, path) ? handlers[path] : undefined;
  if (handler) return await handler(request, response);
  const file = root === null ? null : await openWithin(root, path);
  if (file === null) return fail(response, 404, 'There is no such file.');
  await send(file, request, response);
}

/** By the cookie, or by the token in the address, which becomes one: it is to stay in no history. @returns whether to go on */
function letIn(request: IncomingMessage, response: ServerResponse, token: string): boolean {
  // Cookies do not know ports.
  const name = `lockstep-${request.socket.localPort}`;
  const isToken = (text: string) => {
    const [given, wanted] = [Buffer.from(text), Buffer.from(token)];
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  };
  const cookie = (request.headers.cookie ?? '').split(/; */).find((one) => one.startsWith(`${name}=`));
  if (cookie !== undefined && isToken(cookie.slice(name.length + 1))) return true;
  const [, given] = /[?&]token=([0-9a-f]+)/.exec(request.url ?? '') ?? [];
  if (given === undefined || !isToken(given)) {
    fail(response, 401, 'The token is missing or another one: open the address as it was printed.');
    return false;
  }
  response.setHeader('Set-Cookie', `${name}=${token}; HttpOnly; SameSite=Strict; Path=/`);
  // A link on another site's page: the cookie goes along with nothing that page has begun, a redirect included. This page begins anew.
  if (request.headers['sec-fetch-site'] === 'cross-site') response.writeHead(200, { Refresh: '0; url=/' }).end();
  else response.writeHead(303, { Location: '/' }).end();
  return false;
}

/** A page of another site can make its own name lead here; its requests say that name. */
function isOwnHost({ headers, socket }: IncomingMessage): boolean {
  const { localPort } = socket;
  const hosts = LOOPBACKS.map((name) => (isIPv6(name) ? `[${name}]` : name)).flatMap((name) => [
    `${name}:${localPort}`,
    ...(localPort === 80 ? [name] : []),
  ]);
  return hosts.includes(headers.host?.toLowerCase() ?? '');
}

interface OpenFile {
  readonly handle: FileHandle;
  readonly size: number;
  readonly type: string;
}

/** The file that a request's path names; null: there is none, or it lies elsewhere. */
async function openWithin(root: string, path: string): Promise<OpenFile | null> {
  const segments = segmentsOf(path);
  if (segments === null) return null;
  try {
    let file = await realpath(join(root, ...segments));
    if (path.endsWith('/')) file = await realpath(join(file, 'index.html'));
    // The path was clean, so that only a link can lead out, or to a name with a dot before it.
    const within = relative(root, file);
    if (isAbsolute(within) || within.split(sep).some((name) => name.startsWith('.'))) return null;
    // No link any more, nor one that was put there in between. A pipe would be waited for.
    const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stats = await handle.stat();
    if (stats.isFile()) return { handle, size: stats.size, type: contentType(file) };
    await handle.close();
    return null;
  } catch {
    return null;
  }
}

/** Names of the folders and the file; null for what no page asks for. */
function segmentsOf(path: string): string[] | null {
  if (!path.startsWith('/')) return null;
  try {
    // Decoded once, name by name: an encoded slash is no slash.
    const segments = path
      .split('/')
      .filter((name) => name !== '')
      .map(decodeURIComponent);
    return segments.some((name) => name.startsWith('.') || /[/\\\0]/.test(name)) ? null : segments;
  } catch {
    return null;
  }
}

async function send(
  { handle, size, type }: OpenFile,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  response.setHeader('Content-Type', type);
  response.setHeader('Content-Length', size);
  if (request.method === 'HEAD' || size === 0) {
    response.end();
    return await handle.close();
  }
  // Not more than was promised, should the file grow. Who goes away, even before this begins, leaves an error that nobody has to hear.
  await pipeline(handle.createReadStream({ start: 0, end: size - 1 }), response).catch(() => response.destroy());
}

function fail(response: ServerResponse, status: number, why: string): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' }).end(`${why}\n`);
}
