/** FlatMemory: the same addresses on every thread that allocates alike, zeroed, aligned, and an end that is announced. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import koffi from 'koffi';
import { FlatMemory } from './flat-memory.js';

describe('FlatMemory', () => {
  it('allocations are zeroed, aligned to a cache line, and do not overlap', () => {
    const memory = FlatMemory.create(2);
    const all = [memory.allocate(0), memory.allocate(1), memory.allocate(17), ...memory.allocateEach(3, 100_001)];
    let end = 0;
    for (const [i, view] of all.entries()) {
      assert.equal(view.byteOffset % 64, 0);
      assert.ok(view.byteOffset >= end);
      assert.ok(view.every((value) => value === 0));
      view.fill(i + 1);
      end = view.byteOffset + view.byteLength;
    }
    for (const [i, view] of all.entries()) assert.ok(view.every((value) => value === i + 1));
    assert.equal(memory.allocatedBytes, end);
    assert.equal(memory.allocateWords(3).byteOffset % 64, 0);
    assert.equal(memory.allocateDoubles(3).byteOffset % 64, 0);
  });

  it('knows its own arrays, also after growing', () => {
    const memory = FlatMemory.create(1);
    const early = memory.allocate(10);
    const late = memory.allocate(1_000_000);
    assert.ok(memory.contains(early) && memory.contains(late));
    assert.ok(!memory.contains(new Float32Array(1)));
    early[3] = 7;
    assert.equal(memory.viewAt(early.byteOffset, 10)[3], 7);
  });

  const hugePages = '/sys/kernel/mm/transparent_hugepage/enabled';
  it('is offered to the kernel as huge pages', { skip: !existsSync(hugePages) && `no ${hugePages}` }, () => {
    const memory = FlatMemory.create(1);
    memory.allocate(100);
    const late = memory.allocate(2 ** 21);
    const address = Number(koffi.address(late)) + late.byteLength / 2;
    const mappings = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[\da-f]+-[\da-f]+ )/m);
    const own = mappings.find((text) => {
      const [begin, end] = (text.split(' ', 1)[0] as string).split('-').map((hex) => Number.parseInt(hex, 16));
      return (begin as number) <= address && address < (end as number);
    });
    // smaps' mark for MADV_HUGEPAGE (Linux, Documentation/filesystems/proc.rst).
    assert.match(own ?? 'no mapping', /^VmFlags:.*\bhg\b/m);
  });

  it('threads that allocate alike see one memory, and grow it together', { timeout: 60_000 }, async () => {
    const memory = FlatMemory.create(4);
    const { handle } = memory;
    const own = memory.allocateEach(4, 400_000);
    const sums = await Promise.all(
      own.map(
        (_, thread) =>
          new Promise<unknown>((resolve, reject) => {
            const worker = new Worker(new URL('./testing/memory-thread.js', import.meta.url), {
              workerData: { handle, thread },
            });
            worker.once('message', resolve);
            worker.once('error', reject);
          }),
      ),
    );
    assert.deepEqual(
      sums,
      [0, 1, 2, 3].map((thread) => ({ name: 'simd', bytes: memory.allocatedBytes, thread })),
    );
    for (const [thread, view] of own.entries()) assert.ok(view.every((value) => value === thread + 1));
  });

  it('beyond 4 GiB an allocation fails, says what is in use, and leaves the memory usable', () => {
    const memory = FlatMemory.create(1);
    assert.throws(
      () => memory.allocate(2 ** 30),
      /^RangeError: 4,294,967,296 bytes of shared memory are not to be had: .* in use[\s\S]*\nhelp: /,
    );
    memory.allocate(10)[9] = 1;
  });
});
