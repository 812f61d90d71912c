/**
 * Fetches a large file over HTTP so that nothing is lost and nothing half-written is taken for whole: bytes go to
 * `<file>.part`, a broken connection goes on from there (Range), so does the next run of the program, and the file gets its
 * name when its checksum is right. It unpacks nothing.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, renameSync, rmSync, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { reasonOf } from '../files/file-errors.js';
import { makeFolder } from '../files/make-folder.js';

export interface DownloadOptions {
  readonly url: string;
  /** Where to; its folder is made. */
  readonly file: string;
  /** Expected MD5, hexadecimal; null: none is known, nothing is compared. */
  readonly md5: string | null;
  /** Called with the bytes that are there and all that there will be; null where the server does not say. */
  readonly onProgress?: (done: number, total: number | null) => void;
  /** What a person should know: that it goes on, tries again, starts over. */
  readonly log?: (line: string) => void;
  /** Tries in a row that bring not a byte before giving up. Default 5. */
  readonly attempts?: number;
  /** Pause before the second try; it doubles with each. Default 1,000 ms. */
  readonly pauseMs?: number;
  /** A connection that brings less than `leastBytes` in so long is given up. Default 60,000 ms. */
  readonly stallMs?: number;
  /** Default 65,536: about 1 kB/s. A drip without a limit would be a download without an end. */
  readonly leastBytes?: number;
}

const LEAST_BYTES = 65_536;

/** A connection that was too slow; what it brought is no reason to hope. */
class StallError extends Error {}

/** The file could not be fetched. What came so far is kept in `<file>.part`, unless it is wrong. */
export class DownloadError extends Error {
  override readonly name = 'DownloadError';
}

/**
 * @returns bytes of the file, which has its name now
 * @throws DownloadError with a remedy: no network, refused by the server, a wrong checksum, no room, no permission.
 */
export async function download(options: DownloadOptions): Promise<number> {
  const { url, file, md5, attempts = 5, pauseMs = 1_000, log = () => {} } = options;
  const part = `${file}.part`;
  const already = await prepare(part);
  if (already > 0) log(`Going on with ${part}: ${already} bytes are there.`);
  let failures = 0;
  for (;;) {
    const before = sizeOf(part);
    try {
      await fetchRest(options, part);
      break;
    } catch (error) {
      if (error instanceof DownloadError) throw error;
      const brought = sizeOf(part) - before;
      const enough = error instanceof StallError ? (options.leastBytes ?? LEAST_BYTES) : 1;
      failures = brought >= enough ? 1 : failures + 1;
      const reason = whyBroken(error);
      if (failures >= attempts) {
        throw new DownloadError(
          `${url} could not be fetched: ${reason} (${attempts} tries).\n` +
            `help: is there a network? The same command goes on from ${sizeOf(part)} bytes; --url names a mirror.`,
          { cause: error },
        );
      }
      const pause = pauseMs * 2 ** (failures - 1);
      log(`${reason}; going on from ${sizeOf(part)} bytes in ${pause / 1000} s.`);
      await sleep(pause);
    }
  }
  const found = await md5Of(part);
  if (md5 !== null && found !== md5.toLowerCase()) {
    const size = sizeOf(part);
    rmSync(part);
    throw new DownloadError(
      `${url} has the MD5 ${found}, expected ${md5}: the ${size} bytes were deleted.\n` +
        'help: try again; if it stays wrong the server has another file: choose another --url, or name its --md5.',
    );
  }
  renameSync(part, file);
  return sizeOf(file);
}

/** MD5 of a file, hexadecimal. */
export async function md5Of(file: string): Promise<string> {
  const hash = createHash('md5');
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Makes the folder and the part. @returns bytes that are there from before */
async function prepare(part: string): Promise<number> {
  try {
    makeFolder(dirname(part));
    await (await open(part, 'a')).close();
  } catch (error) {
    throw cannotWrite(part, error);
  }
  return sizeOf(part);
}

/** One connection: from the end of the part to the end of the file. */
async function fetchRest(
  { url, onProgress, log = () => {}, stallMs = 60_000, leastBytes = LEAST_BYTES }: DownloadOptions,
  part: string,
): Promise<void> {
  let done = sizeOf(part);
  const stall = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  /** Bytes since the timer was set. */
  let brought = 0;
  const alive = () => {
    brought = 0;
    clearTimeout(timer);
    timer = setTimeout(() => {
      const came = brought === 0 ? 'nothing' : `no more than ${brought} bytes`;
      stall.abort(new StallError(`${came} came for ${stallMs / 1000} s`));
    }, stallMs);
  };
  let out: FileHandle | null = null;
  try {
    alive();
    const response = await fetch(url, {
      signal: stall.signal,
      // Bytes as they are: a range of a compressed stream would be a range of something else.
      headers: { 'accept-encoding': 'identity', ...(done > 0 ? { range: `bytes=${done}-` } : {}) },
    });
    if (done > 0 && response.status === 416) {
      // Nothing lies behind these bytes: they are the whole file, or more than it.
      await response.body?.cancel();
      const whole = Number(/\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1]);
      if (whole === done) return;
      rmSync(part);
      throw new Error(`the server's file is not the one that ${done} bytes are there of; starting over`);
    }
    if (response.status !== 200 && response.status !== 206) {
      await response.body?.cancel();
      throw refused(url, response);
    }
    const start =
      response.status === 206 ? Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1]) : 0;
    if (start !== done) {
      log('The server does not go on where it was left; starting over.');
      done = 0;
    }
    const length = response.headers.get('content-length');
    const total = length === null ? null : done + Number(length);
    out = await open(part, done === 0 ? 'w' : 'a');
    onProgress?.(done, total);
    for await (const chunk of response.body ?? []) {
      brought += chunk.length;
      if (brought >= leastBytes) alive();
      await write(out, chunk, part);
      done += chunk.length;
      onProgress?.(done, total);
    }
    if (total !== null && done < total) throw new Error(`the connection ended after ${done} of ${total} bytes`);
  } finally {
    clearTimeout(timer);
    await out?.close();
  }
}

async function write(out: FileHandle, chunk: Uint8Array, part: string): Promise<void> {
  try {
    await out.appendFile(chunk);
  } catch (error) {
    throw cannotWrite(part, error);
  }
}

function refused(url: string, { status, statusText }: Response): Error {
  const answer = `${status}${statusText ? ` ${statusText}` : ''}`;
  // Overload and gateways pass; anything else stays.
  if (status === 429 || status >= 500) return new Error(`the server answered ${answer}`);
  return new DownloadError(
    `${url} could not be fetched: the server answered ${answer}.\nhelp: --url names a mirror of the file.`,
  );
}

function cannotWrite(path: string, error: unknown): DownloadError {
  return new DownloadError(
    `${path} could not be written: ${reasonOf(error)}.\nhelp: make room, or choose another folder with --data_dir.`,
    { cause: error },
  );
}

function sizeOf(file: string): number {
  return existsSync(file) ? statSync(file).size : 0;
}

/** fetch says 'fetch failed' and keeps the reason in its cause. */
function whyBroken(error: unknown): string {
  const { message, cause } = error as Error & { cause?: { code?: string; message?: string } };
  const code = cause?.code;
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return `its server's name is not known here (${code}): no network?`;
  if (code === 'ECONNREFUSED') return 'its server refused the connection (ECONNREFUSED)';
  if (code !== undefined) return `the connection broke (${code})`;
  return cause?.message ? `${message}: ${cause.message}` : message;
}
