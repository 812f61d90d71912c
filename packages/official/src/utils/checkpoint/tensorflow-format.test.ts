/** Checkpoints in TensorFlow's format: as the manager keeps them, as TensorFlow finds them, and TensorFlow's own beside them. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, it } from 'node:test';
import { CheckpointError, CheckpointManager, readCheckpoint } from './checkpoint-manager.js';
import { FORMATS } from './formats.js';
import type { TensorFile } from './safetensors.js';
import { SAFETENSORS } from './safetensors-format.js';
import { TensorBundle } from './tensorflow/bundle-reader.js';
import { encodeBundle, type NewTensor } from './tensorflow/bundle-writer.js';
import { checkpointState, latestByState } from './tensorflow/checkpoint-state.js';
import { TENSORFLOW } from './tensorflow-format.js';

const folder = mkdtempSync(join(tmpdir(), 'tensorflow-format-'));
after(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => {
  for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true });
});

const warnings: string[] = [];
const manager = (more: ConstructorParameters<typeof CheckpointManager>[1] = {}) =>
  new CheckpointManager(folder, {
    format: TENSORFLOW,
    formats: FORMATS,
    maxToKeep: 2,
    warn: (line) => warnings.push(line),
    ...more,
  });
const content = (step: number): TensorFile => ({
  tensors: {
    b: { shape: [2, 2], values: Float32Array.of(step, 1, 2, 3) },
    a: { shape: [], values: Int32Array.of(-step) },
  },
  metadata: { format: 'test', global_step: String(step) },
});
/** As another program writes one. */
function foreign(base: string, tensors: readonly NewTensor[]): void {
  const { data, index } = encodeBundle(tensors);
  writeFileSync(`${join(folder, base)}.data-00000-of-00001`, Buffer.concat([...data]));
  writeFileSync(`${join(folder, base)}.index`, index);
}
const scalar = (name: string, dtype: string, values: NewTensor['values']): NewTensor => ({
  name,
  dtype,
  shape: [],
  values,
});

describe("checkpoints in TensorFlow's format", () => {
  it('are written under its names, with its list, and the oldest go', () => {
    for (const step of [9, 10, 100])
      assert.equal(manager().save(step, content(step)), join(folder, `model.ckpt-${step}.index`));
    assert.deepEqual(readdirSync(folder).sort(), [
      'checkpoint',
      'model.ckpt-10.data-00000-of-00001',
      'model.ckpt-10.index',
      'model.ckpt-100.data-00000-of-00001',
      'model.ckpt-100.index',
    ]);
    assert.equal(
      readFileSync(join(folder, 'checkpoint'), 'utf8'),
      'model_checkpoint_path: "model.ckpt-100"\n' +
        'all_model_checkpoint_paths: "model.ckpt-10"\nall_model_checkpoint_paths: "model.ckpt-100"\n',
    );
    const { tensors, metadata, step } = manager().latest()!;
    assert.deepEqual({ ...tensors }, content(100).tensors);
    assert.deepEqual([metadata, step], [content(100).metadata, 100]);
    // What TensorFlow finds there.
    const bundle = new TensorBundle(join(folder, 'model.ckpt-100'));
    assert.deepEqual([...bundle.tensors.keys()], ['a', 'b', 'global_step', 'lockstep_metadata']);
    assert.deepEqual(bundle.read('global_step'), BigInt64Array.of(100n));
    assert.equal(bundle.tensors.get('global_step')?.dtype.name, 'int64');
  });

  it('are passed over when damaged, whichever of the two files is', () => {
    for (const [ending, at] of [
      ['.data-00000-of-00001', 'last'],
      ['.data-00000-of-00001', 0],
      ['.index', 10],
    ] as const) {
      for (const step of [1, 2]) manager().save(step, content(step));
      const path = join(folder, `model.ckpt-2${ending}`);
      const bytes = readFileSync(path);
      bytes[at === 'last' ? bytes.length - 1 : at]! ^= 1;
      writeFileSync(path, bytes);
      warnings.length = 0;
      assert.equal(manager().latest()?.step, 1);
      assert.match(
        warnings.join(),
        /^Checkpoint .*model\.ckpt-2\.index .*; it is passed over for the one before it\.$/,
      );
    }
  });

  it('and the others are one row: the newest step counts, of one step the format that is written', () => {
    const tensors = (step: number, value: number): TensorFile => {
      const { metadata } = content(step);
      return { tensors: { w: { shape: [], values: Float32Array.of(value) } }, metadata };
    };
    const both = (format = TENSORFLOW) => manager({ format });
    both().save(1, tensors(1, 1));
    both(SAFETENSORS).save(2, tensors(2, 2));
    both().save(2, tensors(2, 22));
    assert.deepEqual(both().steps(), [2]);
    assert.equal(both().latest()?.path, join(folder, 'model.ckpt-2.index'));
    assert.equal(both(SAFETENSORS).latest()?.path, join(folder, 'ckpt-2.safetensors'));
    both(SAFETENSORS).save(3, tensors(3, 3));
    // Two are kept, of whatever format, and TensorFlow's list goes with the last of its own.
    assert.deepEqual(readdirSync(folder).sort(), ['ckpt-2.safetensors', 'ckpt-3.safetensors']);
    assert.equal(both().latest()?.step, 3);
  });

  it('that are not our own are read, and never deleted', () => {
    foreign('model.ckpt-5', [
      scalar('w', 'float', Float32Array.of(5)),
      scalar('global_step', 'int64', BigInt64Array.of(5n)),
    ]);
    const own = { isOwn: ({ metadata }: TensorFile) => metadata.format === 'test' };
    assert.deepEqual(manager(own).latest()?.metadata, { global_step: '5' });
    for (const step of [6, 7, 8]) manager(own).save(step, content(step));
    assert.deepEqual(manager(own).steps(), [5, 7, 8]);
  });

  it('of other types become f32 and int32, and what is neither is left out', () => {
    foreign('x', [
      scalar('double', 'double', Float64Array.of(0.1)),
      scalar('half', 'half', Uint16Array.of(0x3c00)),
      scalar('bool', 'bool', Uint8Array.of(1)),
      scalar('int64', 'int64', BigInt64Array.of(-7n)),
      scalar('large', 'int64', BigInt64Array.of(2n ** 40n)),
      scalar('uint32', 'uint32', Uint32Array.of(2 ** 31)),
      scalar('text', 'string', [Buffer.from('text')]),
      { name: 'global_step', dtype: 'int64', shape: [1], values: BigInt64Array.of(3n) },
    ]);
    const { tensors, metadata } = readCheckpoint(join(folder, 'x'));
    assert.deepEqual(
      { ...tensors },
      {
        bool: { shape: [], values: Int32Array.of(1) },
        double: { shape: [], values: Float32Array.of(0.1) },
        global_step: { shape: [1], values: Int32Array.of(3) },
        half: { shape: [], values: Float32Array.of(1) },
        int64: { shape: [], values: Int32Array.of(-7) },
      },
    );
    assert.deepEqual(metadata, {});
  });

  it('are found by any of their files, by their prefix, in a folder, and by its list', () => {
    manager().save(4, content(4));
    const path = join(folder, 'model.ckpt-4.index');
    for (const where of ['', 'model.ckpt-4', 'model.ckpt-4.index', 'model.ckpt-4.data-00000-of-00001']) {
      assert.equal(readCheckpoint(join(folder, where)).path, path, where);
    }
    for (const ending of ['.index', '.data-00000-of-00001']) {
      renameSync(join(folder, `model.ckpt-4${ending}`), join(folder, `best${ending}`));
    }
    assert.throws(() => readCheckpoint(folder), CheckpointError);
    // Folders are moved, and their lists name where they were.
    for (const named of ['best', join(folder, 'best'), '/nowhere/models/best']) {
      writeFileSync(join(folder, 'checkpoint'), checkpointState(['older', named]));
      assert.equal(readCheckpoint(folder).path, join(folder, 'best.index'), named);
    }
    writeFileSync(join(folder, 'checkpoint'), 'garbage');
    assert.throws(() => readCheckpoint(folder), /There is no checkpoint at .*\nhelp: name a file ckpt-<step>/);
    rmSync(join(folder, 'best.data-00000-of-00001'));
    assert.throws(
      () => readCheckpoint(join(folder, 'best')),
      /^CheckpointError: Checkpoint .*best\.index names the data file .*best\.data-00000-of-00001, which cannot be read: .*\nhelp: choose another checkpoint\.$/,
    );
  });

  it('have metadata that are texts by name, or are none', () => {
    for (const json of ['[1]', '{"a":1}', 'x', '3']) {
      foreign('x', [scalar('lockstep_metadata', 'string', [Buffer.from(json)])]);
      assert.throws(
        () => readCheckpoint(join(folder, 'x')),
        /has metadata \(tensor 'lockstep_metadata'\) that are no texts by name/,
      );
    }
  });
});

describe("TensorFlow's list of checkpoints", () => {
  it('is read as TensorFlow writes it, with quotes and backslashes escaped', () => {
    assert.equal(checkpointState([]), '');
    assert.deepEqual(latestByState(folder), []);
    mkdirSync(join(folder, 'checkpoint'));
    assert.deepEqual(latestByState(folder), []);
    rmSync(join(folder, 'checkpoint'), { recursive: true });
    writeFileSync(
      join(folder, 'checkpoint'),
      'model_checkpoint_path: "model.ckpt-\\"7\\\\"\nall_model_checkpoint_paths: "model.ckpt-1"\nlast_preserved_timestamp: 1.5\n',
    );
    assert.deepEqual(latestByState(folder), [join(folder, 'model.ckpt-"7\\'), join(folder, 'model.ckpt-"7\\')]);
  });
});
