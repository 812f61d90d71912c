/** docs/upstream-tests.md names tests: each of them is where the page says. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const page = readFileSync(join(ROOT, 'docs', 'upstream-tests.md'), 'utf8');

it('every test of the table exists', () => {
  const named = [...page.matchAll(/`([\w./-]+\.test\.ts)`: ([^|)]+?) *[|)]/g)];
  assert.ok(named.length > 35, `${named.length} tests are named`);
  for (const [, file = '', name = ''] of named) {
    const source = readFileSync(join(ROOT, 'packages/official/src', file), 'utf8');
    assert.ok(source.includes(name.trim()), `${file} has no test '${name.trim()}'`);
  }
});

it('every file and folder of the table exists', () => {
  const paths = [...page.matchAll(/`((?:packages|utils|data|resnet)\/[\w./-]+)`/g)].map(([, path = '']) => path);
  assert.ok(paths.length > 0);
  for (const path of paths) {
    const full = path.startsWith('packages/') ? path : `packages/official/src/${path}`;
    assert.ok(existsSync(join(ROOT, full)), `${path} does not exist`);
  }
});
