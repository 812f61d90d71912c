/** `lockstep export` as it is typed: after a run, without a backend, and read by Python where there is one with numpy. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { lockstep } from '../testing/process.js';

const folder = mkdtempSync(join(tmpdir(), 'export-command-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const run = (...argv: string[]) => lockstep(argv, { cwd: folder, environment: { LOCKSTEP_DNNL_LIBRARY: '/nowhere' } });

/** Reads the file by the format's description, with nothing of ours. */
const PYTHON = `
import json, struct, sys
import numpy
raw = open(sys.argv[1], 'rb').read()
length, = struct.unpack('<Q', raw[:8])
header = json.loads(raw[8:8 + length])
description = json.loads(header.pop('__metadata__')['description'])
sums = {}
for name, place in header.items():
    begin, end = place['data_offsets']
    assert place['dtype'] == 'F32'
    array = numpy.frombuffer(raw[8 + length + begin:8 + length + end], '<f4').reshape(place['shape'])
    sums[name] = [list(array.shape), float(array.astype('f8').sum())]
print(json.dumps([description, sums]))
`;
const hasNumpy = spawnSync('python3', ['-c', 'import numpy']).status === 0;

describe('lockstep export', () => {
  before(async () => {
    const trained = await lockstep(
      ['start', '--max_train_steps=3', '--num_cpus=1', '--distribution_strategy=off', '--model_dir=model'],
      { cwd: folder },
    );
    assert.equal(trained.status, 0, trained.describe());
  });

  it('writes the model of a run, and what it is for', async () => {
    const result = await run('export', 'model', 'web');
    assert.equal(result.status, 0, result.describe());
    assert.match(
      result.output,
      /^Wrote web\/model\.json \(319 kB with its weights\): ResNet-8 v1 from model\/ckpt-3\.safetensors,\nfor pictures of 32 × 32 in 10 classes\.\n$/,
    );
    const { userDefinedMetadata: description } = JSON.parse(readFileSync(join(folder, 'web', 'model.json'), 'utf8'));
    assert.deepEqual(description.labels, [...'0123456789']);
    const again = await run('export', 'model', 'web');
    assert.equal(again.status, 1);
    assert.match(again.output, /^OUT: web is not empty: .*\nhelp: name a new folder/);
  });

  it('is read by Python', { skip: hasNumpy ? false : 'python3 has no numpy here' }, async () => {
    const result = await run('export', 'model/ckpt-3.safetensors', 'python', '--export_format=safetensors');
    assert.equal(result.status, 0, result.describe());
    const script = join(folder, 'read.py');
    writeFileSync(script, PYTHON);
    const python = spawnSync('python3', [script, join(folder, 'python', 'model.safetensors')], { encoding: 'utf8' });
    assert.equal(python.status, 0, python.stderr);
    const [description, sums] = JSON.parse(python.stdout);
    assert.deepEqual([description.model, description.labels.length], ['ResNet-8 v1', 10]);
    assert.deepEqual(sums['resnet_model/conv2d/kernel'][0], [3, 3, 3, 16]);
    // Kernels of ten convolutions, four numbers for each of 352 normalized channels, and the dense layer.
    const count = Object.values(sums as Record<string, [number[], number]>).reduce(
      (sum, [shape]) => sum + shape.reduce((a, b) => a * b, 1),
      0,
    );
    assert.equal(count, 76_976 + 4 * 352 + 650);
    assert.ok(Object.keys(sums).every((name) => !name.endsWith('/momentum')));
  });

  it('says what is wrong', async () => {
    for (const [argv, status, message] of [
      [
        ['export', 'model'],
        2,
        /lockstep export takes a model and a folder, got model\. Write `lockstep export MODEL_DIR OUT`/,
      ],
      [['export', 'nothing', 'out'], 1, /There is no checkpoint at nothing\.\nhelp: /],
      [['export', 'model', 'out', '--quantize=uint4'], 2, /--quantize=uint4/],
      [['export', 'model', 'out', '--data_dir=nothing'], 1, /there is no folder nothing/],
    ] as const) {
      const result = await run(...argv);
      assert.equal(result.status, status, result.describe());
      assert.match(result.output, message);
    }
    assert.ok(!readdirSync(folder).includes('out'));
  });
});
