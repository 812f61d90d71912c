/** The browser's Host where Node can play the worker: what it gets, and what it leaves alone. Chromium runs the rest (examples/browser). */
import assert from 'node:assert/strict';
import { after, it } from 'node:test';

const scope = globalThis as unknown as {
  onmessage?: unknown;
  addEventListener?: (type: string, listener: (event: { data: unknown }) => void) => void;
};

after(() => {
  delete scope.onmessage;
  delete scope.addEventListener;
});

it('a worker hears what it is to run beside its own messages, whose listener stays', async () => {
  const own = () => {};
  const listeners: ((event: { data: unknown }) => void)[] = [];
  scope.onmessage = own;
  scope.addEventListener = (type, listener) => {
    if (type === 'message') listeners.push(listener);
  };
  const { host } = await import('./browser.js');
  assert.equal(scope.onmessage, own);
  // A page's own messages may be anything.
  for (const data of [
    null,
    undefined,
    'text',
    7,
    { kind: 'another' },
    { kind: 'lockstep start', data: { replica: 1 } },
  ]) {
    for (const listener of listeners) listener({ data });
  }
  assert.deepEqual(await host.replicaData(), { replica: 1 });
});
