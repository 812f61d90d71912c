/** `--export_dir`: what a run leaves there is its own last checkpoint's model, and what stands in its way is said before training. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { readCifar10 } from '../../data/cifar10-data.js';
import { CIFAR10_NAMES, NAMES_FILE } from '../../data/cifar10-names.js';
import { FAST, on } from '../../testing/provider.js';
import { run, writeData } from '../testing/run.js';
import { loadExport, predict } from './testing/trained.js';

const base = mkdtempSync(join(tmpdir(), 'export-dir-'));
after(() => rmSync(base, { recursive: true, force: true }));
const data = writeData(join(base, 'data'));
const path = (name: string) => join(base, name);
const flags = (name: string, ...more: string[]) => [
  `--data_dir=${data}`,
  `--model_dir=${path(name)}`,
  `--export_dir=${path(`${name}-export`)}`,
  '--train_epochs=2',
  '--epochs_between_evals=2',
  ...more,
];
const descriptionIn = (folder: string) =>
  (JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8')) as { userDefinedMetadata: Record<string, unknown> })
    .userDefinedMetadata;

/** Share of the test pictures that an export gets right. */
async function accuracyOf(folder: string): Promise<number> {
  const { records, count } = readCifar10(data, false);
  const pixels = new Float32Array(count * 3072);
  for (let i = 0; i < count; i++) {
    for (let p = 0; p < 1024; p++) {
      for (let c = 0; c < 3; c++) pixels[i * 3072 + 3 * p + c] = records[i * 3073 + 1 + c * 1024 + p] as number;
    }
  }
  return await on(FAST, async () => {
    const model = await loadExport(join(folder, 'model.json'));
    const probabilities = predict(model, pixels, [count, 32, 32, 3]);
    model.dispose();
    let correct = 0;
    for (let i = 0; i < count; i++) {
      const row = probabilities.subarray(10 * i, 10 * i + 10);
      if (row.indexOf(Math.max(...row)) === records[i * 3073]) correct++;
    }
    return correct / count;
  });
}

describe('--export_dir', () => {
  it('leaves the trained model, which is right as often as the evaluation says', async () => {
    for (const version of [1, 2]) {
      const name = `v${version}`;
      const { status, text, result } = await run(flags(name, `--resnet_version=${version}`));
      assert.equal(status, 0, text);
      assert.match(text, new RegExp(`Exported ${path(`${name}-export`)}/model\\.json`));
      assert.equal(result?.exported, path(`${name}-export`));
      assert.equal(await accuracyOf(path(`${name}-export`)), result?.evaluation?.accuracy);
      const description = descriptionIn(path(`${name}-export`));
      assert.deepEqual([description.labels, description.globalStep], [CIFAR10_NAMES, 10]);
    }
  });

  it('with --eval_only takes the newest checkpoint, with the names that the data have now', async () => {
    await run(flags('evaluated').filter((flag) => !flag.startsWith('--export_dir')));
    const names = [...'abcdefghij'];
    writeFileSync(join(data, NAMES_FILE), `${names.join('\n')}\n\n`);
    try {
      const { status, text } = await run(flags('evaluated', '--eval_only', '--quantize=float16'));
      assert.equal(status, 0, text);
    } finally {
      rmSync(join(data, NAMES_FILE));
    }
    const { labels, quantization, globalStep } = descriptionIn(path('evaluated-export'));
    assert.deepEqual([labels, quantization, globalStep], [names, 'float16', 10]);
  });

  it('writes safetensors as well', async () => {
    const { status, text } = await run(flags('tensors', '--export_format=safetensors', '--max_train_steps=1'));
    assert.equal(status, 0, text);
    assert.deepEqual(readdirSync(path('tensors-export')), ['model.safetensors']);
  });

  it('exports nothing of a run that was stopped', async () => {
    const stop = new AbortController();
    const { text, result } = await run(flags('stopped', '--train_epochs=400'), { signal: stop.signal }, (more) => {
      if (/step \d+/.test(more)) stop.abort(new Error('stopped'));
    });
    assert.equal(result?.interrupted, true, text);
    assert.match(text, /--export_dir: nothing is exported: the run is not over/);
    assert.equal(existsSync(path('stopped-export')), false);
  });

  it('says before training what stands in its way', async () => {
    mkdirSync(path('taken-export'));
    writeFileSync(join(path('taken-export'), 'notes.txt'), 'mine');
    const cases = [
      [
        flags('taken'),
        /flag --export_dir: \S+taken-export is not empty: it has 'notes\.txt'\. help: name a new folder/,
      ],
      [
        flags('same', `--export_dir=${path('same')}`),
        /flag --export_dir=\S+same: it is --model_dir, where checkpoints are/,
      ],
      [flags('x', `--export_dir=${join(data, 'test_batch.bin')}`), /flag --export_dir: \S+test_batch\.bin is a file\./],
      [
        flags('x', '--export_format=safetensors', '--quantize=uint8'),
        /flag --quantize=uint8: --export_format=safetensors/,
      ],
      [flags('x', '--quantize=int4'), /flag --quantize=int4/],
    ] as const;
    for (const [argv, message] of cases) {
      const { status, text } = await run(argv);
      assert.equal(status, 2, text);
      assert.match(text, message);
      assert.doesNotMatch(text, /step \d|Saved/);
    }
    assert.equal(existsSync(path('taken')), false);
    const names = join(data, NAMES_FILE);
    writeFileSync(names, 'one\ntwo\n');
    try {
      const { status, text } = await run(flags('names'));
      assert.equal(status, 1);
      assert.ok(text.includes(`${names} has 2 names.\nhelp: 10 names, one a line`), text);
    } finally {
      rmSync(names);
    }
  });
});
