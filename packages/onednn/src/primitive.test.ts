/** The scratchpad of a thread, and those who come back to it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryPool } from './memory/pool.js';
import { Scratchpad } from './primitive.js';

test('a scratchpad that is held stays where it is and nobody else gets it, though the thread has a larger one', () => {
  const pool = new MemoryPool();
  const scratchpad = new Scratchpad(pool);
  const held = scratchpad.hold(5000);
  const again = scratchpad.hold(4000);
  assert.equal(again, held, 'the same for all who are content with it');
  assert.notEqual(scratchpad.address(20000), held.address);
  const others = Array.from({ length: 3 }, () => pool.acquire(5000));
  assert.ok(others.every(({ address }) => address !== held.address));
  for (const other of others) pool.release(other);
  const inUse = pool.statistics().bytesInUse;
  scratchpad.drop(held);
  assert.equal(pool.statistics().bytesInUse, inUse);
  scratchpad.drop(again);
  assert.equal(pool.statistics().bytesInUse, inUse - held.byteLength, 'given back with its last holder');
  const present = scratchpad.hold(100);
  scratchpad.drop(present);
  assert.equal(scratchpad.address(100), present.address, 'the thread still has its own');
});
