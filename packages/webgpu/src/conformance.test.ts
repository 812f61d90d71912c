/** TensorFlow.js' own specifications of the operations whose kernels or gradients are ours, on a GPU: conformance/run.mjs says which. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { whyNoGpu } from './testing/software-gpu.js';

test('the core suite of TensorFlow.js', { skip: whyNoGpu() || false }, () => {
  const program = fileURLToPath(new URL('../conformance/run.mjs', import.meta.url));
  const { stdout, stderr, status } = spawnSync(process.execPath, [program], { encoding: 'utf8', timeout: 400_000 });
  const [, specs, failures] = /^(\d+) specs, (\d+) failures, \d+ pending$/m.exec(stdout) ?? [];
  assert.equal(Number(failures), 0, `${stdout}${stderr}`);
  assert.ok(Number(specs) > 250, `${specs} specifications`);
  assert.equal(status, 0, stderr);
});
