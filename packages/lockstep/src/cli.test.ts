/** Finding a command: what was typed wrong, and what was probably meant. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { lockstep } from './testing/process.js';

describe('a command that there is not', () => {
  const say = async (...words: string[]) => {
    const { status, output } = await lockstep(words);
    assert.equal(status, 2, output);
    return output.split('\n')[0];
  };

  it('is an error that names the nearest one, if one is near', async () => {
    assert.equal(await say('strat'), "lockstep: there is no command 'strat'; did you mean 'start'?");
    assert.equal(
      await say('download_cifar'),
      "lockstep: there is no command 'download_cifar'; did you mean 'download-cifar10'?",
    );
    assert.equal(await say('xyzzy'), "lockstep: there is no command 'xyzzy'.");
    assert.equal(
      await say('bench', 'allreduce'),
      "lockstep bench: there is no 'allreduce'; did you mean 'all_reduce'?",
    );
    assert.equal(await say('bench', 'xyzzy'), "lockstep bench: there is no 'xyzzy'.");
  });
});
