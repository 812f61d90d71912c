/** Making folders, and what cannot be one: each case ends. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { makeFolder } from './make-folder.js';

const base = mkdtempSync(join(tmpdir(), 'make-folder-'));
after(() => rmSync(base, { recursive: true }));

describe('makeFolder', () => {
  it('makes all that is missing, and leaves what is there', () => {
    const deep = join(base, 'a', 'b', 'c');
    makeFolder(deep);
    writeFileSync(join(deep, 'file'), 'kept');
    makeFolder(deep);
    makeFolder(base);
    assert.ok(statSync(join(deep, 'file')).isFile());
  });

  it('says what is in the way', () => {
    const file = join(base, 'file');
    writeFileSync(file, '');
    assert.throws(() => makeFolder(file), { code: 'EEXIST' });
    assert.throws(() => makeFolder(join(file, 'below')), { code: 'ENOTDIR' });
    assert.throws(() => makeFolder(join(file, 'far', 'below')), { code: 'ENOTDIR' });
  });

  it('ends where a folder takes no other', { skip: existsSync('/proc/self') ? false : 'there is no /proc' }, () => {
    assert.throws(() => makeFolder('/proc/none'), { code: 'ENOENT' });
    assert.throws(() => makeFolder('/proc/none/below'), { code: 'ENOENT' });
  });
});
