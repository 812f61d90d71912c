/** What a job leaves in /dev/shm is removed, and nothing of another job, user or program. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { removeSegments } from './segments.js';

it("removes one job's files", () => {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-segments-'));
  try {
    // As Open MPI 4.1.4 named them for user 1234 and a job whose PMIX_NAMESPACE was 1278083073 (0x4c2e0001).
    const uid = 1234;
    const own = [`vader_segment.vm.${uid}.4c2e0001.0`, `vader_segment.a.b.c.${uid}.4c2e0001.17`];
    const others = [
      `vader_segment.vm.${uid}.4c2e0002.0`,
      `vader_segment.vm.${uid}77.4c2e0001.0`,
      'vader_segment.vm.4d2.4c2e0001.0',
      `my.vader_segment.vm.${uid}.4c2e0001.0`,
      `vader_segment.vm.${uid}.4c2e0001.0.txt`,
    ];
    for (const name of [...own, ...others]) writeFileSync(join(folder, name), '');
    assert.equal(removeSegments(undefined, folder, uid), 0);
    assert.equal(removeSegments('prterun-vm-77@1', folder, uid), 0);
    assert.equal(removeSegments('1278083073', folder, uid), 2);
    assert.deepEqual(readdirSync(folder).sort(), others.sort());
    assert.equal(removeSegments('1278083073', join(folder, 'not-there'), uid), 0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it('goes on where one cannot be removed, as when another rank was faster', () => {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-segments-'));
  try {
    // A folder cannot be unlinked; it stands first and last in whatever order the names are read.
    for (const rank of [0, 2]) mkdirSync(join(folder, `vader_segment.vm.7.10001.${rank}`));
    writeFileSync(join(folder, 'vader_segment.vm.7.10001.1'), '');
    assert.equal(removeSegments(String(0x10001), folder, 7), 1);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
