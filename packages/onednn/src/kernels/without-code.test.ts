/** What code of ours computes where the CPU has AVX-512 is computed by oneDNN everywhere else: the same tests, with code switched off. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

for (const name of ['batch-norm', 'fusion', '../not-finite-networks', '../tfjs/layers']) {
  test(`${name} with LOCKSTEP_CODE=0`, () => {
    const file = fileURLToPath(new URL(`${name}.test.js`, import.meta.url));
    // Without the variable by which a test file knows that another runs it: its report is read here.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { stdout, status } = spawnSync(process.execPath, ['--test-reporter=tap', file], {
      env: { ...env, LOCKSTEP_CODE: '0' },
      encoding: 'utf8',
      timeout: 300_000,
    });
    assert.equal(status, 0, stdout);
    assert.match(stdout, /^# pass [1-9]/m);
  });
}
