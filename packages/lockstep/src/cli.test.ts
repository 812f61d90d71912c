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

describe('help', () => {
  const preload = new URL('./testing/tell-modules.js', import.meta.url).href;
  const modulesOf = async (...words: string[]) => {
    const { status, output } = await lockstep(words, { environment: { NODE_OPTIONS: `--import=${preload}` } });
    assert.equal(status, 0, output);
    return output.split('\n').filter((line) => line.startsWith('loads '));
  };

  it('of a main comes without TensorFlow.js and the strategies', async () => {
    for (const command of ['cifar10', 'imagenet']) {
      const modules = await modulesOf(command, '--help');
      assert.ok(
        modules.some((line) => line.includes(`/commands/${command}.js`)),
        modules.join('\n'),
      );
      const heavy = modules.filter((line) => /tensorflow|packages\/(distribute|onednn)\//.test(line));
      assert.deepEqual(heavy, []);
    }
    // The test sees what is loaded: another command's help has it.
    const others = await modulesOf('bench', 'all_reduce', '--help');
    assert.ok(others.some((line) => line.includes('packages/distribute/')));
  });
});
