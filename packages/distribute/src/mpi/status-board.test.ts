/** StatusBoard: what a rank says of itself is read whole, in the middle of writing and of reading, too. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { StatusBoard } from './status-board.js';

/** Both threads' boards over one memory. */
function boards(): [writer: StatusBoard, reader: StatusBoard] {
  const writer = StatusBoard.create(3);
  return [writer, new StatusBoard(writer.buffer)];
}

const said = ({ sequence, operation, bytes, step, state }: ReturnType<StatusBoard['status']>) =>
  `${sequence} ${operation} ${bytes} ${step} ${state}`;

describe('StatusBoard', () => {
  it('keeps what each rank says, and what was found out, apart', () => {
    const [writer, reader] = boards();
    assert.equal(said(reader.status(1)), '0 none 0 -1 computing');
    writer.begin(1, 7, 'broadcast', 4096);
    writer.setStep(1, 3);
    writer.setState(1, 'waiting');
    writer.setProcess(1, 'gone');
    assert.equal(said(reader.status(1)), '7 broadcast 4096 3 waiting');
    assert.equal(reader.status(1).process, 'gone');
    assert.ok(reader.status(1).gone > 0);
    for (const other of [0, 2]) {
      assert.equal(said(reader.status(other)), '0 none 0 -1 computing');
      assert.equal(reader.status(other).gone, 0);
    }
  });

  it('a reader in the middle of writing sees what was said before', () => {
    const [writer, reader] = boards();
    writer.hear(1, Float64Array.of(20, 1, 800, 5, 1));
    const seen: string[] = [];
    // Every number that the writer takes from the message is a moment at which another thread may read.
    const message = new Proxy(Float64Array.of(21, 2, 4, 6, 0), {
      get(target, name) {
        seen.push(said(reader.status(1)));
        return target[name as unknown as number];
      },
    });
    writer.hear(1, message);
    assert.deepEqual(seen, new Array(5).fill('20 all_reduce 800 5 waiting'));
    assert.equal(said(reader.status(1)), '21 broadcast 4 6 computing');
  });

  it('a reader that is overtaken reads again', () => {
    for (const writes of [1, 2, 3]) {
      const [writer, reader] = boards();
      writer.begin(1, 20, 'all_reduce', 800);
      let isOvertaken = false;
      // Behind the third number the other thread goes on to the next collectives, once.
      const target = new Proxy(new Float64Array(5), {
        set(array, name, value: number) {
          array[name as unknown as number] = value;
          if (name === '2' && !isOvertaken) {
            isOvertaken = true;
            for (let i = 1; i <= writes; i++) writer.begin(1, 20 + i, 'broadcast', i);
          }
          return true;
        },
      });
      reader.copyRow(1, target);
      assert.deepEqual([target[0], target[1], target[2]], [20 + writes, 2, writes]);
    }
  });
});
