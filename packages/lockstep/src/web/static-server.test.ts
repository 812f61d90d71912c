/** The server of pages: what it gives out, and what it does not, asked through bare sockets, since clients tidy paths before they ask. */
import assert from 'node:assert/strict';
import { pbkdf2 } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { type StaticServer, startStaticServer } from './static-server.js';

const base = mkdtempSync(join(tmpdir(), 'static-'));
const root = join(base, 'site');
let server: StaticServer;
const portOf = (url: string) => Number(new URL(url).port);

/** The answer to a request as it was typed. */
function ask(path: string, { method = 'GET', host }: { method?: string; host?: string } = {}) {
  const port = portOf(server.url);
  return new Promise<{ status: number; headers: string; body: string }>((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(`${method} ${path} HTTP/1.1\r\nHost: ${host ?? `127.0.0.1:${port}`}\r\nConnection: close\r\n\r\n`);
    });
    let text = '';
    socket.setEncoding('latin1').on('data', (data) => {
      text += data;
    });
    socket.once('error', reject).once('end', () => {
      const [headers = '', ...rest] = text.split('\r\n\r\n');
      resolve({ status: Number(headers.split(' ')[1]), headers, body: rest.join('\r\n\r\n') });
    });
  });
}

before(async () => {
  mkdirSync(join(root, 'sub', 'deep'), { recursive: true });
  mkdirSync(join(base, 'site-other'));
  writeFileSync(join(base, 'secret.txt'), 'secret');
  writeFileSync(join(base, 'site-other', 'secret.txt'), 'secret');
  writeFileSync(join(root, 'index.html'), '<p>front');
  writeFileSync(join(root, 'sub', 'index.html'), '<p>sub');
  writeFileSync(join(root, 'weights.bin'), new Uint8Array(300_000).fill(7));
  writeFileSync(join(root, 'a b.json'), '{}');
  writeFileSync(join(root, 'empty.txt'), '');
  writeFileSync(join(root, '.hidden'), 'secret');
  symlinkSync(join(base, 'secret.txt'), join(root, 'link.txt'));
  symlinkSync(base, join(root, 'up'));
  symlinkSync(join(base, 'site-other'), join(root, 'sideways'));
  symlinkSync(join(root, 'index.html'), join(root, 'inside.html'));
  symlinkSync('.hidden', join(root, 'to-hidden.txt'));
  server = await startStaticServer({
    root,
    handlers: { '/figures': (_request, response) => void response.end('from a handler') },
  });
});
after(async () => {
  await server.close();
  rmSync(base, { recursive: true, force: true });
});

describe('the server of pages', () => {
  it('gives out the files of its folder, with their types', async () => {
    const cases = [
      ['/', '<p>front', 'text/html; charset=utf-8'],
      ['/index.html?a=/../b', '<p>front', 'text/html; charset=utf-8'],
      ['/sub/', '<p>sub', 'text/html; charset=utf-8'],
      ['/a%20b.json', '{}', 'application/json; charset=utf-8'],
      ['/empty.txt', '', 'text/plain; charset=utf-8'],
      ['/inside.html', '<p>front', 'text/html; charset=utf-8'],
      ['/figures?x=1', 'from a handler', null],
    ] as const;
    for (const [path, body, type] of cases) {
      const answer = await ask(path);
      assert.equal(answer.status, 200, path);
      assert.equal(
        answer.headers.includes('Transfer-Encoding') ? answer.body.split('\r\n')[1] : answer.body,
        body,
        path,
      );
      if (type) assert.ok(answer.headers.includes(`Content-Type: ${type}`), answer.headers);
    }
    const weights = await ask('/weights.bin');
    assert.equal(weights.body, '\x07'.repeat(300_000));
  });

  it('gives out nothing that lies elsewhere', async () => {
    const paths = [
      '/../secret.txt',
      '/sub/../../secret.txt',
      '/%2e%2e/secret.txt',
      '/%2e%2e%2fsecret.txt',
      '/..%2fsecret.txt',
      '/sub/..%5c..%5csecret.txt',
      '/%252e%252e/secret.txt',
      '//secret.txt',
      join(base, 'secret.txt'),
      '/link.txt',
      '/up/secret.txt',
      '/sideways/secret.txt',
      '/.hidden',
      '/to-hidden.txt',
      '/sub/./../.hidden',
      '/index.html%00.txt',
      '/%',
      '/sub/deep/',
      '/sub',
      'http://127.0.0.1/secret.txt',
      '*',
    ];
    for (const path of paths) {
      const { status, body } = await ask(path);
      assert.ok(status === 404 || status === 400, `${path}: ${status}`);
      assert.ok(!body.includes('secret'), path);
    }
  });

  it('answers to its own name alone, and changes nothing', async () => {
    const port = portOf(server.url);
    assert.equal((await ask('/', { host: `localhost:${port}` })).status, 200);
    for (const host of ['evil.example', `evil.example:${port}`, '127.0.0.1', `127.0.0.1:${port}.evil.example`, '']) {
      const { status, body } = await ask('/', { host });
      assert.equal(status, 421, host);
      assert.ok(!body.includes('front'));
    }
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      assert.equal((await ask('/', { method })).status, 405, method);
    }
    const head = await ask('/weights.bin', { method: 'HEAD' });
    assert.deepEqual([head.status, head.body], [200, '']);
    assert.match(head.headers, /Content-Length: 300000/);
  });

  it('says with every answer what a page may do', async () => {
    for (const path of ['/', '/nothing', '/figures']) {
      const { headers } = await ask(path);
      assert.match(headers, /Content-Security-Policy: default-src 'none'; script-src 'self';.*frame-ancestors 'none'/);
      assert.doesNotMatch(headers, /unsafe|\*/);
      assert.match(headers, /X-Content-Type-Options: nosniff/);
    }
  });

  it('cannot be reached through an address of the network', async () => {
    const others = Object.values(networkInterfaces())
      .flat()
      .filter((one) => one?.family === 'IPv4' && !one.internal);
    for (const other of [...others.map((one) => one?.address as string), '127.0.0.2']) {
      const isOpen = await new Promise((resolve) => {
        const socket = connect({ port: portOf(server.url), host: other, timeout: 2000 });
        const end = (value: boolean) => {
          socket.destroy();
          resolve(value);
        };
        socket
          .once('connect', () => end(true))
          .once('error', () => end(false))
          .once('timeout', () => end(false));
      });
      assert.equal(isOpen, false, other);
    }
  });

  it('keeps no file open for who has gone', { skip: !existsSync('/proc/self/fd') && 'no /proc here' }, async () => {
    const open = () =>
      readdirSync('/proc/self/fd').filter((name) => {
        try {
          return readlinkSync(`/proc/self/fd/${name}`).endsWith('weights.bin');
        } catch {
          return false;
        }
      }).length;
    // What opens files is busy for so long that who asks has gone before there is an answer.
    const busy = Array.from({ length: 16 }, () => promisify(pbkdf2)('', '', 200_000, 32, 'sha256'));
    const port = portOf(server.url);
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(`GET /weights.bin HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`, () => {
        setTimeout(() => socket.resetAndDestroy(), 20);
      });
    });
    await once(socket, 'close');
    await Promise.all(busy);
    // Behind the opening, which was asked for before.
    for (let i = 0; i < 20; i++) await readFile(join(root, 'index.html'));
    assert.equal(open(), 0);
  });

  it('says which port is taken, and ends with connections open', async () => {
    await assert.rejects(
      startStaticServer({ root, port: portOf(server.url) }),
      new RegExp(`port ${portOf(server.url)} of 127.0.0.1 cannot be used: another program has it\\.\\nhelp: --port=0`),
    );
    let begun = () => {};
    const hasBegun = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const other = await startStaticServer({
      root: null,
      handlers: {
        '/events': (_request, response) => {
          response.write('data: 1\n\n');
          begun();
        },
      },
    });
    const open = fetch(`${other.url}events`).then((response) => response.text());
    const ended = assert.rejects(open);
    await hasBegun;
    assert.equal((await fetch(other.url)).status, 404);
    await other.close();
    await ended;
  });
});
