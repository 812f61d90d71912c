/** Instances of Dawn that nobody holds any more, in a process that collects garbage. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { whyNoGpu } from './testing/software-gpu.js';

test('a thread that has opened a device before computes on its next one, whatever is collected', {
  skip: whyNoGpu() || false,
}, () => {
  const program = `
    import setup from ${JSON.stringify(new URL('./device.js', import.meta.url).href)};
    import * as tf from '@tensorflow/tfjs-core';
    tf.env().set('WEBGPU_CPU_FORWARD', false);
    await setup({ index: 0, device: 'gpu:0' });
    await setup({ index: 0, device: 'gpu:1' });
    for (let i = 0; i < 5; i++) {
      gc();
      const values = await tf.add(tf.zeros([1000]), tf.fill([1000], i)).data();
      if (values.some((value) => value !== i)) throw new Error('wrong values');
      // The collector's finalizers run in the loop.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    console.log('computed');
    process.exit(0);`;
  const { stdout, stderr, status, signal } = spawnSync(
    process.execPath,
    ['--expose-gc', '--input-type=module', '-e', program],
    { encoding: 'utf8', timeout: 120_000, killSignal: 'SIGKILL', cwd: new URL('..', import.meta.url) },
  );
  assert.deepEqual({ stdout, status, signal }, { stdout: 'computed\n', status: 0, signal: null }, stderr);
});
