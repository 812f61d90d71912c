/** Which GPUs are found and which count: with the software driver, without any, and with switches that mean nothing. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { readSwitches } from './switches.js';
import { whyNoGpu } from './testing/software-gpu.js';

interface Answer {
  readonly offers?: { readonly index: number; readonly label: string; readonly facts: Record<string, unknown> }[];
  readonly remark?: string;
  readonly error?: string;
}

/** What a process with this environment is offered. */
function offered(environment: Record<string, string>): Answer {
  const program =
    `import { deviceProvider } from ${JSON.stringify(new URL('./index.js', import.meta.url).href)};` +
    'try { console.log(JSON.stringify({ offers: deviceProvider.devices(), remark: deviceProvider.remark() })); }' +
    'catch (error) { console.log(JSON.stringify({ error: error.message })); }';
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, ...environment },
  });
  assert.equal(stderr, '', 'drivers that complain do so elsewhere');
  return JSON.parse(stdout) as Answer;
}

const NO_DRIVER = { VK_ICD_FILENAMES: '/nonexistent.json', VK_DRIVER_FILES: '/nonexistent.json' };

describe('adapters that are found', { skip: whyNoGpu() || false }, () => {
  test('each is offered as many times as is asked for, with its facts', () => {
    const { offers = [] } = offered({ LOCKSTEP_LOGICAL_GPUS: '3' });
    assert.ok(offers.length >= 3 && offers.length % 3 === 0);
    assert.deepEqual(
      offers.map(({ index }) => index),
      offers.map((_, i) => i),
    );
    const [first, second] = offers as [(typeof offers)[0], (typeof offers)[0]];
    assert.equal(first.label, second.label);
    const { vendor, maxBufferBytes, maxBindingBytes, features } = first.facts;
    assert.equal(typeof vendor, 'string');
    // What WebGPU guarantees of every adapter.
    assert.ok((maxBufferBytes as number) >= 2 ** 28 && (maxBindingBytes as number) >= 2 ** 27);
    assert.ok((features as string[]).includes('core-features-and-limits'), String(features));
  });

  test('one that the CPU computes does not count unless it is allowed, and that is said', () => {
    const all = offered({ LOCKSTEP_SOFTWARE_GPU: '1', LOCKSTEP_LOGICAL_GPUS: '1' }).offers ?? [];
    const { offers, remark } = offered({ LOCKSTEP_SOFTWARE_GPU: '0', LOCKSTEP_LOGICAL_GPUS: '1' });
    const hardware = all.filter(({ facts }) => facts.software !== true);
    assert.equal(offers?.length, hardware.length);
    if (hardware.length < all.length) assert.match(remark ?? '', /\nhelp: LOCKSTEP_SOFTWARE_GPU=1 lets it/);
  });
});

test('without a driver there is no GPU, and it is said what is needed', { skip: process.platform !== 'linux' }, () => {
  const { offers, remark } = offered(NO_DRIVER);
  assert.deepEqual(offers, []);
  assert.match(remark ?? '', /^WebGPU found no GPU\.\nhelp: a driver for Vulkan \(Linux: libvulkan1/);
});

describe('switches', () => {
  test('nothing given: hardware alone, once', () => {
    assert.deepEqual(readSwitches({}), { software: false, logical: 1 });
    assert.deepEqual(readSwitches({ LOCKSTEP_SOFTWARE_GPU: '1', LOCKSTEP_LOGICAL_GPUS: '4' }), {
      software: true,
      logical: 4,
    });
  });
  for (const [name, value] of [
    ['LOCKSTEP_SOFTWARE_GPU', 'yes'],
    ['LOCKSTEP_LOGICAL_GPUS', '0'],
    ['LOCKSTEP_LOGICAL_GPUS', '1.5'],
    ['LOCKSTEP_LOGICAL_GPUS', 'two'],
  ] as const) {
    test(`${name}=${value} is an error that names it`, () => {
      assert.throws(() => readSwitches({ [name]: value }), {
        name: 'RangeError',
        message: new RegExp(`^${name} is '${value}'\\.\nhelp: `),
      });
    });
  }
});
