/** How buffers are cut into the messages of an all-reduce: by the sizes that the rule states, and nothing left out. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { partition } from './all-reduce.js';

const KB = 2 ** 10;
const MB = 2 ** 20;

describe('the messages of an all-reduce', () => {
  it('are as long as the rule says', () => {
    for (const [bytes, ranks, segments, longest] of [
      // A part up to 256 KB is one message.
      [512 * KB, 2, 1, 256 * KB],
      // Then messages of 256 KB, up to four.
      [MB, 2, 2, 256 * KB],
      [2 * MB, 2, 4, 256 * KB],
      // Then four, up to 1 MB each.
      [4 * MB, 2, 4, 512 * KB],
      [8 * MB, 2, 4, MB],
      [16 * MB, 4, 4, MB],
      // Then messages of 1 MB, up to 64.
      [64 * MB, 2, 32, MB],
      [256 * MB, 2, 64, 2 * MB],
    ] as const) {
      const cut = partition(bytes / 4, ranks, 4);
      assert.deepEqual([cut.segments, 4 * cut.longest], [segments, longest], `${bytes} bytes, ${ranks} ranks`);
    }
  });

  it('follow one another without a gap, to the last element', () => {
    for (const count of [1, 15, 16, 17, 65_537, 500_009, 2_097_152, 25_610_152]) {
      for (const ranks of [2, 3, 7]) {
        const { segments, longest, range } = partition(count, ranks, 4);
        let next = 0;
        for (let part = 0; part < ranks; part++) {
          for (let segment = 0; segment < segments; segment++) {
            const { start, length } = range(part, segment);
            assert.ok(length <= longest, `${count} elements, ${ranks} ranks: ${length} in a message`);
            if (length > 0) assert.equal(start, next, `${count} elements, ${ranks} ranks, part ${part}`);
            next += length;
          }
        }
        assert.equal(next, count, `${count} elements, ${ranks} ranks`);
      }
    }
  });
});
