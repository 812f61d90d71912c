// The runner of tests itself: what becomes of files that skip everything, hold nothing, crash, or hang.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { runTestFile } from './run-test-file.mjs';

describe('a file of tests', () => {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-runner-'));
  after(() => rmSync(folder, { recursive: true }));
  const IMPORT = "import { describe, it } from 'node:test';\n";
  const verdict = async (name, text, limit = 60_000) => {
    const path = join(folder, `${name}.test.mjs`);
    writeFileSync(path, text);
    return runTestFile(path, { limit, cwd: folder });
  };
  const counts = ({ passed, failed, skipped }) => [passed, failed, skipped];

  it('whose only suite is skipped counts as skipped, with the reason', async () => {
    const text = `${IMPORT}describe('needs x', { skip: 'x is not here' }, () => { it('a', () => {}); it('b', () => {}); });`;
    const result = await verdict('skipped', text);
    assert.deepEqual(counts(result), [0, 0, 1]);
    assert.deepEqual(result.reasons, ['needs x: x is not here']);
  });

  it('that is empty, or defines nothing, has failed', async () => {
    for (const text of ['', `${IMPORT}export const unused = [describe, it];`, `${IMPORT}describe('none', () => {});`]) {
      const result = await verdict('empty', text);
      assert.deepEqual(counts(result), [0, 1, 0], text);
      assert.match(result.output, /holds no test/);
    }
  });

  it('that crashes before the first test has failed', async () => {
    const result = await verdict('crash', "throw new Error('before anything');");
    assert.deepEqual(counts(result), [0, 1, 0]);
    assert.match(result.output, /before anything/);
  });

  it('that does not parse, or imports what is not there, has failed', async () => {
    assert.deepEqual(counts(await verdict('syntax', 'import {')), [0, 1, 0]);
    assert.deepEqual(counts(await verdict('missing', "import './not-there.mjs';")), [0, 1, 0]);
  });

  it('that hangs has failed when its time is over, and what passed before counts', async () => {
    const text = `${IMPORT}it('ends', () => {}); it('hangs', () => new Promise(() => setInterval(() => {}, 1000)));`;
    const result = await verdict('hang', text, 3000);
    assert.equal(result.failed, 1);
    assert.equal(result.skipped, 0);
    assert.match(result.output, /ended after 3 s/);
  });

  it('that exits in the middle, or whose hook fails, has failed', async () => {
    const early = await verdict('exit', `${IMPORT}it('a', () => {}); it('b', () => process.exit(3));`);
    assert.ok(early.failed >= 1, early.output);
    const hook = await verdict(
      'hook',
      `import { before, describe, it } from 'node:test';
       describe('s', () => { before(() => { throw new Error('no'); }); it('a', () => {}); });`,
    );
    assert.ok(hook.failed >= 1, hook.output);
    assert.equal(hook.passed, 0);
  });

  it('with tests of each kind counts each once, also inside suites', async () => {
    const result = await verdict(
      'mixed',
      `${IMPORT}
       it('passes', () => {});
       it('fails', () => { throw new Error('wrong'); });
       it('is skipped', { skip: 'why' }, () => {});
       it('skips itself', (t) => t.skip('later'));
       it('is to be done', { todo: 'some day' }, () => { throw new Error('not yet'); });
       describe('a suite', () => {
         it('passes', () => {});
         it('fails', () => { throw new Error('wrong, too'); });
         describe('in a suite', { skip: 'not now' }, () => { it('never', () => {}); });
       });`,
    );
    assert.deepEqual(counts(result), [2, 2, 4]);
  });
});
