/**
 * A checkpoint that version 0.1 wrote in the middle of a train call, with values put in that compress well, goes on for ever:
 * to the same figures, from the same place, with the same momenta and the same loss scale.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { differences, readCheckpoint, run, writeData } from './testing/run.js';

const OLD = new URL('../../src/resnet/testing/checkpoint-0.1.safetensors.gz', import.meta.url);
const STEP = 7;
/** Of the 16 test images that testing/run.ts makes, when the checkpoint was written. */
const EVALUATION = { accuracy: 0, accuracyTop5: 0.25, loss: 2.919122069835663 };

const folder = mkdtempSync(join(tmpdir(), 'old-checkpoint-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const data = writeData(join(folder, 'data'));

function modelFolder(name: string): string {
  const model = join(folder, name);
  mkdirSync(model);
  writeFileSync(join(model, `ckpt-${STEP}.safetensors`), gunzipSync(readFileSync(OLD)));
  return model;
}

describe('a checkpoint of version 0.1', () => {
  it('evaluates to the figures that it had', async () => {
    const { status, text, result } = await run(
      [`--data_dir=${data}`, `--model_dir=${modelFolder('evaluated')}`, '--eval_only'],
      { seed: null },
    );
    assert.equal(status, 0, text);
    assert.doesNotMatch(text, /passed over/);
    const { accuracy, accuracyTop5, loss, globalStep } = result!.evaluation!;
    assert.deepEqual([accuracy, accuracyTop5, globalStep], [EVALUATION.accuracy, EVALUATION.accuracyTop5, STEP]);
    assert.ok(Math.abs(loss - EVALUATION.loss) < 1e-5 * EVALUATION.loss, String(loss));
  });

  it('goes on in the middle of its call, with its seed, momenta and loss scale', async () => {
    const model = modelFolder('resumed');
    const flags = [`--data_dir=${data}`, `--model_dir=${model}`, '--train_epochs=4', '--epochs_between_evals=2'];
    const { status, text, result } = await run([...flags, '--loss_scale=dynamic'], { seed: null });
    assert.equal(status, 0, text);
    assert.match(text, /^Restored step 7 from /m);
    assert.deepEqual([result?.seed, result?.globalStep], [11, 20], text);
    const end = readCheckpoint(model, 20);
    const { metadata } = end;
    assert.deepEqual([metadata.epochs, metadata.call_epochs, metadata.step], ['4', '0', '0']);
    assert.deepEqual([metadata.current_loss_scale, metadata.good_steps], ['32768', '20']);
    // The same tensors under the same names as then, and all of them trained on.
    const begun = readCheckpoint(model, STEP);
    assert.deepEqual(Object.keys(end.tensors).sort(), Object.keys(begun.tensors).sort());
    assert.equal(differences(begun, end).length, Object.keys(begun.tensors).length);
  });
});
