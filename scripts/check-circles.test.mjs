// The check itself: circles of files and folders are found, of type imports too, and what is no circle is none.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { it } from 'node:test';
import { circlesOfPackage } from './check-circles.mjs';

function circles(files) {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-circles-'));
  try {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), text);
    }
    const found = circlesOfPackage(folder);
    const names = (list) => list.map((circle) => circle.map((path) => relative(folder, path)).sort());
    return { files: names(found.files), folders: names(found.folders) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

it('finds a circle of files, whichever kinds of imports it is made of', () => {
  const found = circles({
    'a.ts': "import { b } from './b.js';\nexport const a = b;",
    'b.ts': "export type {\n  C,\n} from './c.js';\nexport const b = 1;",
    'c.ts': "import type { a } from './a.js';\nexport type C = typeof a;",
    'd.ts': "import './a.js';",
  });
  assert.deepEqual(found.files, [['a.ts', 'b.ts', 'c.ts']]);
});

it('finds a circle of folders that no files form', () => {
  const found = circles({
    'x/one.ts': "import { two } from '../y/two.js';\nexport const one = two;",
    'x/three.ts': 'export const three = 3;',
    'y/two.ts': 'export const two = 2;',
    'y/four.ts': "import { three } from '../x/three.js';\nexport const four = three;",
  });
  assert.deepEqual(found, { files: [], folders: [['x', 'y']] });
});

it('takes a folder and those within it for one house, whose files may still form circles', () => {
  const files = {
    'x/one.ts': "import { two } from './inner/two.js';\nexport const one = two;",
    'x/inner/two.ts': "import { three } from '../three.js';\nexport const two = three;",
    'x/three.ts': 'export const three = 3;',
  };
  assert.deepEqual(circles(files), { files: [], folders: [] });
  const closed = { ...files, 'x/three.ts': "import { one } from './one.js';\nexport const three = one;" };
  assert.deepEqual(circles(closed).files, [['x/inner/two.ts', 'x/one.ts', 'x/three.ts']]);
});

it('finds none where arrows go one way, and lets tests and roots be', () => {
  const found = circles({
    'index.ts': "export * from './x/one.js';",
    'log.ts': 'export const log = 1;',
    'x/one.ts': "import { log } from '../log.js';\n// import { index } from '../index.js';\nexport const one = log;",
    'x/one.test.ts': "import { index } from '../index.js';",
    'x/testing/scene.ts': "import { index } from '../../index.js';",
  });
  assert.deepEqual(found, { files: [], folders: [] });
});
