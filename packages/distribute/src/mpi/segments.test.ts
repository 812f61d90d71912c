/** What a job leaves in /dev/shm is removed, and nothing of another job, user or program. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { removeSegments } from './segments.js';

it("removes one job's files", () => {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-segments-'));
  try {
    const uid = userInfo().uid.toString(16);
    // As Open MPI 4.1.4 named them for a job whose PMIX_NAMESPACE was 405405697 (0x182a0001).
    const own = [`vader_segment.vm.${uid}.182a0001.0`, `vader_segment.a.b.c.${uid}.182a0001.1f`];
    const others = [
      `vader_segment.vm.${uid}.182a0002.0`,
      `vader_segment.vm.${uid}77.182a0001.0`,
      `my.vader_segment.vm.${uid}.182a0001.0`,
      `vader_segment.vm.${uid}.182a0001.0.txt`,
    ];
    for (const name of [...own, ...others]) writeFileSync(join(folder, name), '');
    assert.equal(removeSegments(undefined, folder), 0);
    assert.equal(removeSegments('prterun-vm-77@1', folder), 0);
    assert.equal(removeSegments('405405697', folder), 2);
    assert.deepEqual(readdirSync(folder).sort(), others.sort());
    assert.equal(removeSegments('405405697', join(folder, 'not-there')), 0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
