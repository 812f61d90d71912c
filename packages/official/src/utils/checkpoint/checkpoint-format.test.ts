/** The manager with a format of another kind, of two files: whole or not at all, rotated and swept like the first. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, it } from 'node:test';
import type { CheckpointFormat } from './checkpoint-format.js';
import { CheckpointError, CheckpointManager } from './checkpoint-manager.js';
import { type TensorFile, TensorFileError } from './safetensors.js';

const folder = mkdtempSync(join(tmpdir(), 'checkpoint-format-'));
after(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => {
  for (const name of readdirSync(folder)) rmSync(join(folder, name));
});

/** Values of all tensors in one file, the rest as JSON in the other. */
const PAIR: CheckpointFormat = {
  name: 'pair',
  endings: ['.data', '.index'],
  encode: ({ tensors, metadata }) => {
    const shapes = Object.entries(tensors).map(([name, { shape }]) => ({ name, shape }));
    const data = Object.values(tensors).map(({ values }) => new Uint8Array(values.buffer));
    return [data, [new TextEncoder().encode(JSON.stringify({ shapes, metadata }))]];
  },
  read: ([data, index]) => {
    try {
      const { shapes, metadata } = JSON.parse(readFileSync(index as string, 'utf8'));
      const bytes = readFileSync(data as string);
      const all = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
      let at = 0;
      const tensors: Record<string, TensorFile['tensors'][string]> = {};
      for (const { name, shape } of shapes as { name: string; shape: number[] }[]) {
        const length = shape.reduce((a, b) => a * b, 1);
        tensors[name] = { shape, values: all.slice(at, at + length) };
        at += length;
      }
      return { tensors, metadata };
    } catch (error) {
      throw new TensorFileError('is no pair', { cause: error });
    }
  },
};

const content = (step: number): TensorFile => ({
  tensors: {
    a: { shape: [2, 2], values: Float32Array.of(step, 1, 2, 3) },
    b: { shape: [1], values: Float32Array.of(-step) },
  },
  metadata: { step: String(step) },
});
const warnings: string[] = [];
const manager = () =>
  new CheckpointManager(folder, { format: PAIR, maxToKeep: 2, warn: (line) => warnings.push(line) });

describe('a checkpoint format of two files', () => {
  it('is written and read, and the oldest go whole', () => {
    for (const step of [1, 2, 10]) manager().save(step, content(step));
    assert.deepEqual(readdirSync(folder).sort(), ['ckpt-10.data', 'ckpt-10.index', 'ckpt-2.data', 'ckpt-2.index']);
    const latest = manager().latest();
    assert.equal(latest?.path, join(folder, 'ckpt-10.index'));
    assert.deepEqual(latest?.tensors, content(10).tensors);
    assert.equal(latest?.metadata.step, '10');
  });

  it('counts only with its last file, and is passed over when another is gone or damaged', () => {
    for (const step of [1, 2]) manager().save(step, content(step));
    writeFileSync(join(folder, 'ckpt-7.data'), 'a save that did not end');
    assert.deepEqual(manager().steps(), [1, 2]);
    writeFileSync(join(folder, 'ckpt-2.data'), new Uint8Array(20));
    assert.equal(manager().latest()?.step, 1);
    unlinkSync(join(folder, 'ckpt-2.data'));
    warnings.length = 0;
    assert.equal(manager().latest()?.step, 1);
    assert.match(warnings.join(), /Checkpoint .*ckpt-2\.index is no pair; it is passed over for the one before it/);
  });

  it('leaves nothing of a save that failed, or that a killed process left', () => {
    writeFileSync(join(folder, 'ckpt-3.data.999999999.tmp'), '');
    writeFileSync(join(folder, 'ckpt-3.index.999999999.tmp'), '');
    manager().save(4, content(4));
    assert.deepEqual(readdirSync(folder).sort(), ['ckpt-4.data', 'ckpt-4.index']);
    const failing: CheckpointFormat = {
      ...PAIR,
      encode: (file) => [PAIR.encode(file)[0] as Iterable<Uint8Array>, fails()],
    };
    assert.throws(() => new CheckpointManager(folder, { format: failing }).save(5, content(5)), CheckpointError);
    assert.deepEqual(readdirSync(folder).sort(), ['ckpt-4.data', 'ckpt-4.index']);
  });

  it('does not take the other format for its own', () => {
    new CheckpointManager(folder).save(1, content(1));
    assert.deepEqual(manager().steps(), []);
    assert.equal(manager().latest(), null);
  });
});

function* fails(): Generator<Uint8Array, void> {
  yield new Uint8Array(1);
  throw new Error('the disk is full');
}
