/**
 * Downloading from a server on this machine that does everything a server can do wrong: it breaks off, knows no ranges, is
 * overloaded, hangs, has another file, or none.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, before, beforeEach, describe, it } from 'node:test';
import { create } from 'tar';
import { readCifar10 } from '../data/cifar10-data.js';
import { download } from '../utils/download/download.js';
import { main } from './cifar10-download-and-extract.js';
import { writeData } from './testing/run.js';

const NAME = 'cifar-10-binary.tar.gz';
const FOLDER = 'cifar-10-batches-bin';

let folder = '';
let archive: Buffer = Buffer.alloc(0);
let md5 = '';
let server: Server;
let url = '';
/** What a test's server does; and the ranges that it was asked for. */
let answer: (request: IncomingMessage, response: ServerResponse) => void = () => {};
let ranges: (string | undefined)[] = [];

before(async () => {
  const source = mkdtempSync(join(tmpdir(), 'download-source-'));
  writeData(join(source, FOLDER));
  await create({ gzip: true, file: join(source, NAME), cwd: source, portable: true }, [FOLDER]);
  archive = readFileSync(join(source, NAME));
  md5 = createHash('md5').update(archive).digest('hex');
  rmSync(source, { recursive: true });
});

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'download-'));
  ranges = [];
  answer = serve;
  server = createServer((request, response) => {
    ranges.push(request.headers.range);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/mirror/${NAME}`;
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(folder, { recursive: true, force: true });
});

/** A server as it should be: the file, or the range asked for. */
function serve(request: IncomingMessage, response: ServerResponse, limit = Number.POSITIVE_INFINITY): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  if (from >= archive.length) {
    response.writeHead(416, { 'content-range': `bytes */${archive.length}` }).end();
    return;
  }
  const headers: Record<string, string | number> = { 'content-length': archive.length - from };
  if (from > 0) headers['content-range'] = `bytes ${from}-${archive.length - 1}/${archive.length}`;
  response.writeHead(from > 0 ? 206 : 200, headers);
  if (from + limit >= archive.length) response.end(archive.subarray(from));
  // What was promised is more than what comes: the connection breaks.
  else response.write(archive.subarray(from, from + limit), () => setTimeout(() => response.destroy(), 20));
}

async function run(...argv: string[]): Promise<{ status: number; out: string; err: string }> {
  let [out, err] = ['', ''];
  const status = await main([`--data_dir=${folder}`, `--url=${url}`, `--md5=${md5}`, ...argv], {
    out: (text) => (out += text),
    err: (text) => (err += text),
    isTerminal: false,
    pauseMs: 1,
  });
  return { status, out, err };
}

const part = () => join(folder, `${NAME}.part`);

describe('download-cifar10', () => {
  it('fetches, says upstream’s lines, unpacks, and what came can be read', async () => {
    const { status, out, err } = await run();
    assert.equal(status, 0, err);
    assert.match(err, /^>> Downloading cifar-10-binary\.tar\.gz 0\.0%\n/);
    assert.match(err, />> Downloading cifar-10-binary\.tar\.gz 100\.0%\n$/);
    assert.ok(out.startsWith(`Successfully downloaded ${NAME} ${archive.length} bytes.\n`), out);
    assert.match(
      out,
      /Unpacked to .*cifar-10-batches-bin: 40 images to train on, 16 to test\.\nNext: lockstep cifar10 --data_dir=/,
    );
    assert.equal(readCifar10(folder, true).count, 40);
    assert.deepEqual(readdirSync(folder).sort(), [FOLDER, NAME]);
  });

  it('on a terminal progress is one line', async () => {
    let err = '';
    const status = await main([`--data_dir=${folder}`, `--url=${url}`, `--md5=${md5}`], {
      out: () => {},
      err: (text) => (err += text),
      isTerminal: true,
    });
    assert.equal(status, 0, err);
    assert.match(err, /^(\r>> Downloading cifar-10-binary\.tar\.gz \d+\.\d%)+\n$/);
    assert.ok(err.endsWith(' 100.0%\n'), err);
  });

  it('fetches nothing that is there, and unpacks it again', async () => {
    await run();
    rmSync(join(folder, FOLDER, 'data_batch_2.bin'));
    writeFileSync(join(folder, FOLDER, 'test_batch.bin'), 'scribble');
    const { status, out, err } = await run();
    assert.equal(status, 0, err);
    assert.match(out, new RegExp(`^.*${NAME} is there already\\.\n`));
    assert.equal(ranges.length, 1);
    assert.deepEqual([readCifar10(folder, true).count, readCifar10(folder, false).count], [40, 16]);
  });

  it('goes on where the connection broke', async () => {
    const third = Math.ceil(archive.length / 3);
    answer = (request, response) => serve(request, response, third);
    const { status, out, err } = await run();
    assert.equal(status, 0, err);
    assert.match(err, /going on from \d+ bytes in /);
    // Every connection begins where the one before ended; nothing comes twice.
    const starts = ranges.map((range) => Number(/\d+/.exec(range ?? '0')?.[0]));
    assert.equal(starts[0], 0);
    assert.ok(starts.length >= 3, String(starts));
    assert.ok(
      starts.every((start, i) => i === 0 || start > starts[i - 1]!),
      String(starts),
    );
    assert.match(out, /^Successfully downloaded/);
  });

  it('goes on where an earlier run of the command was left', async () => {
    writeFileSync(part(), archive.subarray(0, 1000));
    const { status, err } = await run();
    assert.equal(status, 0, err);
    assert.match(err, /^Going on with .*\.part: 1000 bytes are there\.\n/);
    assert.deepEqual(ranges, ['bytes=1000-']);
  });

  it('a part that is the whole file already is not fetched again', async () => {
    writeFileSync(part(), archive);
    const { status, err } = await run();
    assert.equal(status, 0, err);
    assert.deepEqual(ranges, [`bytes=${archive.length}-`]);
  });

  it('starts over where the server knows no ranges, or has another file', async () => {
    writeFileSync(part(), 'something else');
    answer = (_request, response) => response.end(archive);
    const first = await run();
    assert.equal(first.status, 0, first.err);
    assert.match(first.err, /The server does not go on where it was left; starting over\./);
    rmSync(join(folder, NAME));
    writeFileSync(part(), Buffer.concat([archive, archive]));
    answer = serve;
    const second = await run();
    assert.equal(second.status, 0, second.err);
    assert.match(second.err, /starting over/);
  });

  it('a wrong checksum is an error that keeps nothing, also after what was unpacked before', async () => {
    await run();
    rmSync(join(folder, NAME));
    answer = (_request, response) =>
      response.end(Buffer.concat([archive.subarray(0, 500), Buffer.from('?'), archive.subarray(501)]));
    const { status, err } = await run();
    assert.equal(status, 1);
    assert.match(
      err,
      new RegExp(`has the MD5 [0-9a-f]{32}, expected ${md5}: the ${archive.length} bytes were deleted\\.\nhelp: `),
    );
    assert.deepEqual(readdirSync(folder), [FOLDER]);
    assert.equal(readCifar10(folder, true).count, 40);
  });

  it('an archive that is there but damaged is fetched again', async () => {
    writeFileSync(join(folder, NAME), 'half an archive');
    const { status, out } = await run();
    assert.equal(status, 0);
    assert.match(
      out,
      /has the MD5 [0-9a-f]{32}, expected [0-9a-f]{32}: it is fetched again\.\nSuccessfully downloaded/,
    );
  });

  it('404 is an error at once, an overloaded server is asked again', async () => {
    answer = (_request, response) => response.writeHead(404).end('nothing here');
    const missing = await run();
    assert.equal(missing.status, 1);
    assert.match(missing.err, /could not be fetched: the server answered 404 Not Found\.\nhelp: --url names a mirror/);
    assert.equal(ranges.length, 1);
    let asked = 0;
    answer = (request, response) => (++asked < 3 ? response.writeHead(503).end() : serve(request, response));
    const busy = await run();
    assert.equal(busy.status, 0, busy.err);
    assert.match(busy.err, /the server answered 503 Service Unavailable; going on from 0 bytes in /);
  });

  it('without a network it gives up after five tries, says why, and keeps what came', async () => {
    writeFileSync(part(), archive.subarray(0, 77));
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    const { status, err } = await run();
    assert.equal(status, 1);
    assert.match(
      err,
      /could not be fetched: its server refused the connection \(ECONNREFUSED\) \(5 tries\)\.\nhelp: is there a network\? The same command goes on from 77 bytes; --url names a mirror\.\n$/,
    );
    assert.equal(readFileSync(part()).length, 77);
    const nameless = await run('--url=http://no-such-host.invalid/x.tar.gz');
    assert.equal(nameless.status, 1);
    assert.match(
      nameless.err,
      /its server's name is not known here \((ENOTFOUND|EAI_AGAIN)\): no network\? \(5 tries\)/,
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });

  it('a server that hangs does not hang the command', async () => {
    answer = (_request, response) => {
      response.writeHead(200, { 'content-length': archive.length });
      response.write(archive.subarray(0, 10));
    };
    await assert.rejects(
      download({ url, file: join(folder, 'x'), md5: null, attempts: 2, pauseMs: 1, stallMs: 100 }),
      /no more than 10 bytes came for 0\.1 s \(2 tries\)/,
    );
  });

  it('a server that drips does not hang it either, and slow but steady is fine', async () => {
    let connections = 0;
    answer = (_request, response) => {
      connections++;
      response.writeHead(200, { 'content-length': 1e9 });
      const drip = setInterval(() => response.write('x'), 20);
      response.on('close', () => clearInterval(drip));
    };
    const options = { url, file: join(folder, 'x'), md5: null, attempts: 3, pauseMs: 1, stallMs: 200 };
    await assert.rejects(download(options), /no more than \d+ bytes came for 0\.2 s \(3 tries\)/);
    assert.equal(connections, 3);
    answer = (_request, response) => {
      response.writeHead(200, { 'content-length': 40 });
      let sent = 0;
      const drip = setInterval(() => {
        if (++sent === 40) clearInterval(drip);
        response.write('x');
      }, 20);
    };
    assert.equal(await download({ ...options, file: join(folder, 'y'), leastBytes: 1 }), 40);
  });

  it('links, devices and giants in an archive are refused by name; permissions are plain', async () => {
    const source = mkdtempSync(join(tmpdir(), 'download-odd-'));
    try {
      writeData(join(source, FOLDER));
      chmodSync(join(source, FOLDER, 'test_batch.bin'), 0o6777);
      const pack = () => {
        const file = join(source, 'odd.tar.gz');
        execFileSync('tar', ['-C', source, '-czf', file, FOLDER]);
        return readFileSync(file);
      };
      const odd = async (content: Buffer) => {
        rmSync(join(folder, NAME), { force: true });
        answer = (_request, response) => response.end(content);
        return run('--md5=');
      };
      assert.equal((await odd(pack())).status, 0);
      assert.equal(statSync(join(folder, FOLDER, 'test_batch.bin')).mode & 0o7777, 0o644);
      for (const target of ['/etc', '../..', 'data_batch_1.bin']) {
        symlinkSync(target, join(source, FOLDER, 'link'));
        const { status, err } = await odd(pack());
        assert.equal(status, 1);
        assert.match(err, /could not be unpacked: "cifar-10-batches-bin\/link" in it is a SymbolicLink, .*\nhelp: /);
        assert.deepEqual(readdirSync(folder).sort(), [FOLDER, NAME]);
        rmSync(join(source, FOLDER, 'link'));
      }
      linkSync(join(source, FOLDER, 'test_batch.bin'), join(source, FOLDER, 'zz.bin'));
      assert.match((await odd(pack())).err, /is a Link/);
      rmSync(join(source, FOLDER, 'zz.bin'));
      execFileSync('mkfifo', [join(source, FOLDER, 'pipe')]);
      assert.match((await odd(pack())).err, /is a FIFO/);
      rmSync(join(source, FOLDER, 'pipe'));
      truncateSync(join(source, FOLDER, 'data_batch_1.bin'), 2 ** 30 + 1);
      assert.match((await odd(pack())).err, /has 1073741825 bytes/);
      assert.equal(readCifar10(folder, true).count, 40);
    } finally {
      rmSync(source, { recursive: true });
    }
  });

  it('what is no archive, or another one, is an error and leaves what was unpacked before', async () => {
    await run();
    for (const [content, reason] of [
      [Buffer.from('<html>please log in</html>'), /could not be unpacked: .*help: delete it/s],
      [archive.subarray(0, archive.length - 50), /could not be unpacked: /],
    ] as const) {
      rmSync(join(folder, NAME));
      answer = (_request, response) => response.end(content);
      const { status, err } = await run('--md5=');
      assert.equal(status, 1);
      assert.match(err, reason);
      assert.deepEqual(readdirSync(folder).sort(), [FOLDER, NAME]);
      assert.equal(readCifar10(folder, true).count, 40);
    }
  });

  it('what is no file in the archive’s place is an error at once: a pipe would be waited for', async () => {
    for (const [kind, make] of [
      ['a named pipe', () => execFileSync('mkfifo', [join(folder, NAME)])],
      ['a folder', () => mkdirSync(join(folder, NAME))],
    ] as const) {
      make();
      const { status, err } = await run();
      assert.equal(status, 1);
      assert.equal(
        err,
        `${join(folder, NAME)} is ${kind}, not a file.\nhelp: remove it, or choose another folder with --data_dir.\n`,
      );
      rmSync(join(folder, NAME), { recursive: true });
    }
  });

  it('a folder that cannot be made, and flags that cannot be, are errors', async () => {
    writeFileSync(join(folder, 'file'), '');
    const { status, err } = await run(`--data_dir=${join(folder, 'file', 'data')}`);
    assert.equal(status, 1);
    assert.match(
      err,
      /could not be written: a (part of the path is not a folder|file is in the way) \(E\w+\)\.\nhelp: make room, or choose another folder with --data_dir\./,
    );
    for (const bad of ['--url=ftp://x/y', '--url=nonsense', '--md5=abc', '--datadir=x', '--data_dir=']) {
      assert.equal((await run(bad)).status, 2, bad);
    }
    const help = await run('--help');
    assert.equal(help.status, 0);
    assert.match(help.out, /--data_dir/);
  });
});
