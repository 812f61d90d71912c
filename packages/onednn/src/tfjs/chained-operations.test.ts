/**
 * Chained operations with tfjs-core and tfjs-layers alone. Which there are, and what each does with its arguments, is read from
 * TensorFlow.js' own files, which Node cannot load.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { layers, sequential } from '@tensorflow/tfjs-layers';
import { chainedNames } from './chained-operations.js';
import '../index.js';

await tf.setBackend('onednn');
const folder = join(dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs-core')), 'public/chained_ops');
const names: string[] = [];
/** Parameters and what is returned, by name, of those that do nothing else. */
const theirs = new Map<string, { parameters: string; returned: string }>();
for (const file of readdirSync(folder).filter((name) => name.endsWith('.js'))) {
  const text = readFileSync(join(folder, file), 'utf8').replace(/\s+/g, ' ');
  const name = /prototype\.(\w+) = function/.exec(text)?.[1];
  if (name) names.push(name);
  const found = /prototype\.(\w+) = function \(([^)]*)\) \{ (?:this\.throwIfDisposed\(\); )?(.*?);? \};/.exec(text);
  if (found) theirs.set(found[1] as string, { parameters: found[2] as string, returned: found[3] as string });
}

describe('chained operations', () => {
  it("are TensorFlow.js' all, and no others", () => {
    assert.ok(names.length > 120, `${names.length}`);
    assert.deepEqual([...chainedNames].sort(), names.sort());
    const prototype = tf.Tensor.prototype as unknown as Record<string, unknown>;
    for (const name of chainedNames) assert.equal(typeof prototype[name], 'function', name);
  });

  it('take their arguments in the order of the operation of the same name', () => {
    const operations = tf as unknown as Record<string, unknown>;
    let same = 0;
    for (const [name, { parameters, returned }] of theirs) {
      if (typeof operations[name] !== 'function' || ['concat', 'stack', 'where'].includes(name)) continue;
      const list = parameters.replace(/ = [^,]*/g, '');
      assert.equal(returned, `return ${name}(this${list ? `, ${list}` : ''})`);
      same++;
    }
    assert.ok(same > 100, `${same}`);
  });

  it('that are no operations of that name do what their names say', () => {
    const x = tf.tensor2d([1, 2, 3, 4], [2, 2]);
    const values = (tensor: tf.Tensor) => [tensor.dtype, tensor.shape, Array.from(tensor.dataSync())];
    assert.deepEqual(values(x.flatten()), ['float32', [4], [1, 2, 3, 4]]);
    assert.deepEqual(values(x.as1D()), ['float32', [4], [1, 2, 3, 4]]);
    assert.deepEqual(values(x.as3D(1, 4, 1)), ['float32', [1, 4, 1], [1, 2, 3, 4]]);
    assert.deepEqual(values(x.slice(0, 1).sum().asScalar()), ['float32', [], [3]]);
    assert.deepEqual(values(x.toInt()), ['int32', [2, 2], [1, 2, 3, 4]]);
    assert.deepEqual(values(x.sub(1).toBool()), ['bool', [2, 2], [0, 1, 1, 1]]);
    assert.deepEqual(values(x.toInt().toFloat()), ['float32', [2, 2], [1, 2, 3, 4]]);
    assert.deepEqual(values(x.asType('int32')), ['int32', [2, 2], [1, 2, 3, 4]]);
    assert.deepEqual(values(x.concat(x, 1)), ['float32', [2, 4], [1, 2, 1, 2, 3, 4, 3, 4]]);
    assert.deepEqual(values(x.concat([x, x])).slice(0, 2), ['float32', [6, 2]]);
    assert.deepEqual(values(x.stack(x)), ['float32', [2, 2, 2], [1, 2, 3, 4, 1, 2, 3, 4]]);
    assert.deepEqual(values(x.where(x.greater(2), x.neg())), ['float32', [2, 2], [-1, -2, 3, 4]]);
    assert.deepEqual(values(x.reshapeAs(tf.zeros([4, 1]))), ['float32', [4, 1], [1, 2, 3, 4]]);
    const image = x.as4D(1, 2, 2, 1);
    assert.deepEqual(
      values(image.resizeBilinear([1, 1])),
      values(tf.image.resizeBilinear(image as tf.Tensor4D, [1, 1])),
    );
    assert.deepEqual(values(image.resizeNearestNeighbor([4, 4])).slice(0, 2), ['float32', [1, 4, 4, 1]]);
    assert.throws(() => x.asScalar(), /only 1 element/);
    x.dispose();
    assert.throws(() => x.flatten(), /disposed/);
    assert.throws(() => x.relu(), /disposed/);
  });

  it('let every recurrent layer be made with its defaults, and trained', async () => {
    const steps: Record<string, [Parameters<typeof sequential>[0], number[]]> = {};
    const add = (name: string, layer: unknown, shape: number[]) => {
      steps[name] = [{ layers: [layer as ReturnType<typeof layers.dense>] }, shape];
    };
    add('lstm', layers.lstm({ units: 3, inputShape: [4, 5] }), [2, 4, 5]);
    add('gru', layers.gru({ units: 3, inputShape: [4, 5] } as never), [2, 4, 5]);
    add('simpleRNN', layers.simpleRNN({ units: 3, inputShape: [4, 5] }), [2, 4, 5]);
    const convolution = layers.convLstm2d({ filters: 2, kernelSize: 3, inputShape: [2, 6, 6, 3] });
    add('convLstm2d', convolution, [2, 2, 6, 6, 3]);
    const wrapped = layers.lstm({ units: 3, dropout: 0.2, recurrentDropout: 0.2 }) as never;
    add('bidirectional', layers.bidirectional({ layer: wrapped, inputShape: [4, 5] } as never), [2, 4, 5]);
    for (const [name, [args, shape]] of Object.entries(steps)) {
      const model = sequential(args);
      model.compile({ optimizer: 'sgd', loss: 'meanSquaredError' });
      const y = tf.zeros([2, ...(model.outputShape as number[]).slice(1)]);
      const loss = await model.trainOnBatch(tf.ones(shape), y);
      assert.ok(Number.isFinite(loss), name);
      model.dispose();
    }
  });
});
