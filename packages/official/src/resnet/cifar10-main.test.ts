/**
 * The run loop as a whole, on a few images: what it trains, when it evaluates, saves, stops and resumes, and what it says
 * when something is wrong. Arithmetic is checked against closed forms; the networks have tests of their own.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { SyntheticInput } from '../data/synthetic.js';
import { readEvents } from '../summary/event-file.js';
import { FAST, on } from '../testing/provider.js';
import { CheckpointManager } from '../utils/checkpoint/checkpoint-manager.js';
import { sparseSoftmaxCrossEntropy } from './fused-ops.js';
import { cifar10Plan, Model, upstreamName } from './resnet-model.js';
import { differences, readCheckpoint, run, TEST_IMAGES, writeData } from './testing/run.js';

const folder = mkdtempSync(join(tmpdir(), 'cifar10-main-'));
const data = join(folder, 'data');
const model = (name: string) => join(folder, name);
const flags = (name: string, ...more: string[]) => [`--data_dir=${data}`, `--model_dir=${model(name)}`, ...more];
const mirrored = ['--num_cpus=2', '--distribution_strategy=mirrored'];
const checkpoints = (name: string) => readdirSync(model(name)).filter((file) => file.startsWith('ckpt-'));

before(() => writeData(data));
after(() => rmSync(folder, { recursive: true, force: true }));

describe('end to end with synthetic data (upstream’s integration test)', () => {
  for (const version of ['1', '2']) {
    it(`v${version}, batch 4, one step`, async () => {
      const name = `synthetic-v${version}`;
      const { status, text, result } = await run([
        `--model_dir=${model(name)}`,
        `--resnet_version=${version}`,
        '--use_synthetic_data',
        '--max_train_steps=1',
        '--train_epochs=1',
        '--epochs_between_evals=1',
        '--batch_size=4',
      ]);
      assert.equal(status, 0, text);
      assert.equal(result?.globalStep, 1);
      assert.ok(Number.isFinite(result?.evaluation?.loss), text);
      assert.deepEqual(checkpoints(name), ['ckpt-1.safetensors']);
    });
  }
});

describe('a training step', () => {
  it('is momentum and weight decay in closed form: a ← 0.9 a + g + 2e-4 w, w ← w − lr a', async () => {
    const common = ['--use_synthetic_data', '--batch_size=4', '--save_checkpoints_steps=1', '--max_train_steps=2'];
    const { status, text } = await run([`--model_dir=${model('closed')}`, ...common]);
    assert.equal(status, 0, text);
    const learningRate = (0.1 * 4) / 128;
    const plan = cifar10Plan(8, 1);
    const batch = new SyntheticInput({ plan, batchSize: 4, seed: 1, stream: 0 }).next();
    await on(FAST, () => {
      const network = new Model(plan, 1);
      const accumulators = new Map<string, Float64Array>();
      for (const step of [1, 2]) {
        const { grads } = tf.variableGrads(
          () =>
            tf.mean(
              sparseSoftmaxCrossEntropy(
                network.call(tf.tensor4d(batch.images, [4, 32, 32, 3]), true),
                tf.tensor1d(batch.labels, 'int32'),
              ),
            ) as tf.Scalar,
          [...network.variables],
        );
        const { tensors } = readCheckpoint(model('closed'), step);
        for (const variable of network.variables) {
          const name = upstreamName(variable.name);
          const weights = variable.dataSync().slice();
          const gradient = grads[variable.name]!.dataSync();
          const before = accumulators.get(name) ?? new Float64Array(weights.length);
          const accumulator = before.map((value, i) => 0.9 * value + gradient[i]! + 2e-4 * weights[i]!);
          const saved = tensors[`${name}/momentum`]!.values;
          const updated = tensors[name]!.values;
          const scale = Math.max(1e-3, ...Array.from(accumulator, Math.abs));
          for (let i = 0; i < weights.length; i++) {
            assert.ok(Math.abs(saved[i]! - accumulator[i]!) < 1e-4 * scale, `step ${step}, ${name}/momentum[${i}]`);
            // The update itself is exact arithmetic on what was saved.
            const expected = Math.fround(weights[i]! - learningRate * saved[i]!);
            assert.ok(
              Math.abs(updated[i]! - expected) <= 1.2e-7 * Math.max(1, Math.abs(expected)),
              `step ${step}, ${name}[${i}]`,
            );
          }
          accumulators.set(name, Float64Array.from(saved as Float32Array));
          const next = tf.tensor(updated as Float32Array, variable.shape);
          variable.assign(next);
          next.dispose();
        }
      }
      network.dispose();
    });
  });
});

describe('train and evaluate', () => {
  it('interleave by epochs_between_evals; every train call ends with a checkpoint', async () => {
    const { status, text, lines, result } = await run(
      flags('interleave', '--train_epochs=3', '--epochs_between_evals=2'),
    );
    assert.equal(status, 0, text);
    const order = lines.filter((line) => /^(Starting|Saved|Evaluation)/.test(line));
    assert.deepEqual(
      order.map((line) => line.replace(/:? (at step|accuracy|\/).*/, '').replace(/ checkpoint$/, '')),
      [
        'Starting cycle: 0/2',
        'Saved',
        'Starting to evaluate.',
        'Evaluation',
        'Starting cycle: 1/2',
        'Saved',
        'Starting to evaluate.',
        'Evaluation',
      ],
      text,
    );
    assert.deepEqual(checkpoints('interleave'), ['ckpt-10.safetensors', 'ckpt-15.safetensors']);
    assert.equal(result?.globalStep, 15);
    assert.equal(result?.evaluation?.globalStep, 15);
    assert.match(text, /^epoch 3\.0\/3 {2}step 15\/15 /m);
    // The metrics of upstream's base logger, one line each, in name order.
    const metrics = lines.filter((line) => line.startsWith('Benchmark metric: ')).slice(-3);
    const parsed = metrics.map(
      (line) => JSON.parse(line.slice(18)) as { name: string; global_step: number; value: number },
    );
    assert.deepEqual(
      parsed.map(({ name, global_step }) => [name, global_step]),
      [
        ['accuracy', 15],
        ['accuracy_top_5', 15],
        ['loss', 15],
      ],
    );
    assert.equal(parsed[0]?.value, result?.evaluation?.accuracy);
    // Accuracies of 16 images are sixteenths.
    assert.ok(Number.isInteger(TEST_IMAGES * (parsed[0]?.value ?? Number.NaN)));
  });

  it('max_train_steps ends training, with a checkpoint and an evaluation, wherever it falls', async () => {
    const { status, text, result } = await run(flags('steps', '--train_epochs=4', '--max_train_steps=7'));
    assert.equal(status, 0, text);
    assert.equal(result?.globalStep, 7);
    assert.ok(result?.evaluation);
    assert.deepEqual(checkpoints('steps'), ['ckpt-7.safetensors']);
    assert.match(text, /step 7\/7 /);
  });

  it('a flag that upstream ignores is named', async () => {
    const { text } = await run(flags('ignored', '--train_epochs=1', '--max_train_steps=1', '--weight_decay=0.5'));
    assert.match(text, /^warning: --weight_decay=0\.5 has no effect: CIFAR-10 has 0\.0002 fixed, as upstream\.$/m);
  });

  it('stop_threshold ends it after the evaluation that reaches it', async () => {
    const { text, result } = await run(
      flags('threshold', '--train_epochs=3', '--epochs_between_evals=1', '--stop_threshold=0'),
    );
    assert.equal(result?.globalStep, 5, text);
    assert.match(text, /Stop threshold of 0 was passed with metric value \d/);
    const not = await run(
      flags('threshold-not', '--train_epochs=2', '--epochs_between_evals=1', '--stop_threshold=1.1'),
    );
    assert.equal(not.result?.globalStep, 10);
  });

  it('eval_only evaluates the newest checkpoint and changes nothing', async () => {
    const trained = await run(flags('evaluated', '--train_epochs=1'));
    const before = readCheckpoint(model('evaluated'), 5);
    for (const more of [[], mirrored]) {
      const { status, text, result } = await run(flags('evaluated', '--eval_only', ...more));
      assert.equal(status, 0, text);
      assert.deepEqual(result?.evaluation, trained.result?.evaluation);
      assert.deepEqual(checkpoints('evaluated'), ['ckpt-5.safetensors']);
      assert.deepEqual(differences(readCheckpoint(model('evaluated'), 5), before), []);
    }
    const untrained = await run(flags('never-trained', '--eval_only'));
    assert.equal(untrained.status, 0, untrained.text);
    assert.match(
      untrained.text,
      /warning: Could not find trained model in model_dir: .*never-trained, running initialization to evaluate\./,
    );
  });

  it('keeps the five newest checkpoints, or as many as told', async () => {
    await run(flags('five', '--train_epochs=2', '--save_checkpoints_steps=1'));
    assert.deepEqual(checkpoints('five').length, 5);
    assert.ok(checkpoints('five').includes('ckpt-10.safetensors'));
    await run(flags('two', '--train_epochs=1', '--save_checkpoints_steps=1', '--keep_checkpoint_max=2'));
    assert.deepEqual(checkpoints('two'), ['ckpt-4.safetensors', 'ckpt-5.safetensors']);
  });
});

describe('what is shown of training', () => {
  it('a board is shown by a program that has one, and by no other', async () => {
    const command = flags('boarded', '--train_epochs=1', '--board');
    const refused = await run(command);
    assert.equal(refused.status, 2);
    assert.match(refused.text, /flag --board=true: this program has no page of its own/);
    const asked: string[] = [];
    const board = async (modelDir: string) => {
      asked.push(modelDir);
      return 'http://127.0.0.1:1/';
    };
    const shown = await run(command, { board });
    assert.equal(shown.status, 0, shown.text);
    assert.deepEqual(asked, [model('boarded')]);
    assert.match(shown.text, /^Board: http:\/\/127\.0\.0\.1:1\/$/m);
    assert.match(shown.text, /^Throughput: \d+ images\/s; 5 steps in [\d.]+ s of training$/m);
    assert.ok(shown.text.includes(`Files: ${model('boarded')}; to look at them: lockstep board ${model('boarded')}\n`));
    // One that cannot be shown is no reason not to train.
    const failing = await run([...command, '--clean'], { board: () => Promise.reject(new Error('no port is free.')) });
    assert.equal(failing.status, 0, failing.text);
    assert.match(failing.text, /^warning: --board: no port is free\.$/m);
    const without = await run([...command, '--clean', '--noboard', '--save_summary_steps=0'], { board });
    assert.equal(asked.length, 1);
    assert.match(without.text, /^Files: [^;]*$/m);
  });

  it('summaries are there for TensorBoard, unless they are not wanted, and --clean knows them', async () => {
    const events = (name: string) => readdirSync(model(name)).filter((file) => file.startsWith('events.out.tfevents.'));
    const every = ['--save_summary_steps=2', '--save_histogram_steps=4'];
    const command = flags('summaries', '--train_epochs=2', '--epochs_between_evals=1', ...every);
    const { status, text, result } = await run(command);
    assert.equal(status, 0, text);
    const [file, ...more] = events('summaries');
    assert.deepEqual(more, []);
    const all = [...readEvents(join(model('summaries'), file as string))];
    const steps = (tag: string) => all.filter(({ scalars }) => scalars?.[tag] !== undefined).map(({ step }) => step);
    // Five steps a call: the first one, and every second from where the call begins.
    assert.deepEqual(steps('cross_entropy'), [1, 3, 5, 7, 9]);
    assert.deepEqual(steps('evaluation/accuracy'), [5, 10]);
    const accuracies = all.flatMap(({ scalars }) => scalars?.['evaluation/accuracy'] ?? []);
    assert.equal(accuracies.at(-1), Math.fround(result?.evaluation?.accuracy as number));
    const texts = all.flatMap(({ texts: some }) => Object.keys(some ?? {}));
    assert.equal(texts.filter((tag) => tag === 'graph').length, 1);
    assert.match(
      all.find(({ texts: some }) => some?.graph)?.texts?.graph ?? '',
      /\| resnet_model\/conv2d\/kernel \| 3 × 3 × 3 × 16 \| 432 \|/,
    );
    // Histograms and pictures are passed over when read. Of steps 4 and 8; and the first pictures of both train calls.
    const bytes = readFileSync(join(model('summaries'), file as string), 'latin1');
    const count = (tag: string) => bytes.split(`${tag}"`).length + bytes.split(`${tag}*`).length - 2;
    for (const kind of ['weights', 'gradients']) assert.equal(count(`${kind}/resnet_model/conv2d/kernel`), 2, kind);
    assert.equal(count('images/image/0'), 2);
    const again = await run([...command, '--clean', '--save_summary_steps=0']);
    assert.equal(again.status, 0, again.text);
    assert.deepEqual(events('summaries'), []);
  });

  it('hooks begin anew with each train call, and their accuracy is of its images so far, as upstream', async () => {
    const { status, text } = await run(
      flags('shown', '--train_epochs=4', '--epochs_between_evals=2', '--hooks=LoggingTensorHook', '--progress=none'),
    );
    assert.equal(status, 0, text);
    // Ten steps a call: the hook reports the first of each, and no other before the hundredth. --progress=none hides no hook.
    const lines = [
      ...text.matchAll(/^learning_rate = [\d.]+, cross_entropy = [\d.]+, train_accuracy = ([\d.]+)(.*)$/gm),
    ];
    assert.deepEqual(
      lines.map(([, accuracy, seconds]) => [Number.isInteger(8 * Number(accuracy)), seconds]),
      [
        [true, ''],
        [true, ''],
      ],
      text,
    );
    assert.doesNotMatch(text, /^epoch /m);
    const every = await run(flags('shown-metrics', '--train_epochs=1', '--hooks=LoggingMetricHook', '--log_steps=1'));
    const [first] = [...every.text.matchAll(/"name":"train_accuracy","value":([\d.]+)/g)];
    assert.ok(first && Number.isInteger(8 * Number(first[1])), every.text);
  });

  it('a synthetic run without an end shows no end', async () => {
    const interrupt = new AbortController();
    const { status, text } = await run(
      [
        `--model_dir=${model('endless')}`,
        '--use_synthetic_data',
        '--train_epochs=1',
        '--log_steps=1',
        '--hooks=ProfilerHook',
      ],
      { signal: interrupt.signal },
      (said) => {
        if (/ step 3 /.test(said)) interrupt.abort();
      },
    );
    assert.equal(status, 130, text);
    assert.match(text, /^epoch 0\.0\/1 {2}step 3 {2}loss [\d.]+ .* no end$/m);
    assert.doesNotMatch(text, / left$/m);
  });
});

describe('repeatable', () => {
  for (const [what, more] of [
    ['one device', []],
    ['two replicas', mirrored],
  ] as const) {
    it(`the same seed gives the same weights bit by bit, another seed others: ${what}`, async () => {
      const name = (n: number) => `seed-${what}-${n}`;
      await run(flags(name(1), '--train_epochs=2', ...more));
      await run(flags(name(2), '--train_epochs=2', ...more));
      await run(flags(name(3), '--train_epochs=2', '--seed=2', ...more));
      const [first, second, third] = [1, 2, 3].map((n) => readCheckpoint(model(name(n)), 10));
      assert.deepEqual(differences(first!, second!), []);
      assert.ok(differences(first!, third!).includes('resnet_model/conv2d/kernel'));
    });

    it(`stop and resume gives the weights of no stop, bit by bit: ${what}`, async () => {
      const name = (n: number) => `stop-${what}-${n}`;
      const long = ['--train_epochs=20', '--epochs_between_evals=15'];
      await run(flags(name(1), ...long, ...more));
      // Stopped in the middle of the first call, and again, by a signal, and resumed by the same command.
      for (const stopAt of [3, 40]) {
        const interrupt = new AbortController();
        const stopped = await run(
          flags(name(2), ...long, '--hooks=LoggingTensorHook', '--log_steps=1', ...more),
          { signal: interrupt.signal },
          (text) => {
            if (text.includes(` step ${stopAt}/`)) interrupt.abort();
          },
        );
        assert.equal(stopped.status, 130, stopped.text);
        assert.ok((stopped.result?.globalStep ?? 0) >= stopAt);
      }
      const resumed = await run(flags(name(2), ...long, ...more));
      assert.match(resumed.text, /^Restored step \d+ from .*ckpt-\d+\.safetensors$/m);
      assert.equal(resumed.result?.globalStep, 100, resumed.text);
      const different = differences(readCheckpoint(model(name(1)), 100), readCheckpoint(model(name(2)), 100));
      // Each of two replicas has moving statistics of its own; a checkpoint holds their mean, which rounds once more.
      const statistics = /\/moving_(mean|variance)$/;
      assert.deepEqual(more.length > 0 ? different.filter((one) => !statistics.test(one)) : different, []);
    });
  }

  for (const [what, more] of [
    ['one device', []],
    ['two replicas', mirrored],
  ] as const) {
    it(`a dynamic loss scale goes on where it was, and skipped steps are no global steps: ${what}`, async () => {
      const name = (part: string) => `scale-${part}-${what}`.replace(' ', '-');
      const dynamic = ['--loss_scale=dynamic', '--epochs_between_evals=4', ...more];
      await run(flags(name('begin'), '--train_epochs=1', ...dynamic));
      const begun = readCheckpoint(model(name('begin')), 5);
      assert.deepEqual([begun.metadata.current_loss_scale, begun.metadata.good_steps], ['32768', '5']);
      // A scale that f32 does not have: the next run finds one that fits, and skips steps until then.
      const metadata = { ...begun.metadata, current_loss_scale: String(2 ** 131) };
      for (const part of ['once', 'parts']) {
        new CheckpointManager(model(name(part))).save(5, { ...begun, metadata });
      }
      const once = await run(flags(name('once'), '--train_epochs=4', ...dynamic));
      assert.equal(once.status, 0, once.text);
      const skips = once.lines.filter((line) => / skipped: gradients are not finite at a loss scale of /.test(line));
      assert.ok(skips.length >= 4 && skips.length < 12, once.text);
      assert.ok(skips.every((line) => line.includes('Step 6 skipped')));
      const steps = 20 - skips.length;
      assert.equal(once.result?.globalStep, steps);

      // Stopped after the first skipped step, and again where steps are good.
      const interrupt = new AbortController();
      const stopped = await run(
        flags(name('parts'), '--train_epochs=4', ...dynamic),
        { signal: interrupt.signal },
        (text) => {
          if (text.includes('Step 6 skipped')) interrupt.abort();
        },
      );
      assert.equal(stopped.status, 130, stopped.text);
      const part = await run(flags(name('parts'), '--train_epochs=4', `--max_train_steps=${steps - 2}`, ...dynamic));
      assert.equal(part.result?.globalStep, steps - 2, part.text);
      const resumed = await run(flags(name('parts'), '--train_epochs=4', ...dynamic));
      assert.equal(resumed.result?.globalStep, steps, resumed.text);

      const [left, right] = ['once', 'parts'].map((one) => readCheckpoint(model(name(one)), steps));
      const different = differences(left!, right!);
      // As above: each replica has moving statistics of its own.
      assert.deepEqual(more.length > 0 ? different.filter((one) => !/\/moving_/.test(one)) : different, []);
      for (const { metadata: end } of [left!, right!]) {
        assert.equal(Number(end.current_loss_scale), 2 ** (131 - skips.length));
        assert.equal(end.good_steps, String(20 - 5 - skips.length));
      }
    });
  }

  it('max_train_steps and later more of them: as if in one go; and other epochs_between_evals', async () => {
    await run(flags('once', '--train_epochs=4', '--epochs_between_evals=4'));
    await run(flags('parts', '--train_epochs=4', '--epochs_between_evals=1', '--max_train_steps=5'));
    await run(flags('parts', '--train_epochs=4', '--epochs_between_evals=4', '--max_train_steps=13'));
    const { result, text } = await run(flags('parts', '--train_epochs=4', '--epochs_between_evals=2'));
    assert.equal(result?.globalStep, 20, text);
    assert.deepEqual(differences(readCheckpoint(model('once'), 20), readCheckpoint(model('parts'), 20)), []);
    const done = await run(flags('parts', '--train_epochs=4'));
    assert.match(done.text, /All epochs are trained already; only evaluating\. A larger --train_epochs goes on\./);
    assert.deepEqual(done.result?.evaluation, result?.evaluation);
    const more = await run(flags('parts', '--train_epochs=5'));
    assert.equal(more.result?.globalStep, 25, more.text);
  });

  it('a seed that was drawn is printed, and repeats the run', async () => {
    const drawn = await run(flags('drawn-1', '--train_epochs=1'), { seed: null });
    const [, seed] = /^seed (\d+) \(drawn; --seed=\d+ repeats this run\)$/m.exec(drawn.text) ?? [];
    assert.equal(Number(seed), drawn.result?.seed, drawn.text);
    await run(flags('drawn-2', '--train_epochs=1', `--seed=${seed}`));
    assert.deepEqual(differences(readCheckpoint(model('drawn-1'), 5), readCheckpoint(model('drawn-2'), 5)), []);
    assert.equal(
      (await run(flags('drawn-3', '--train_epochs=1'), { seed: null })).result?.seed === Number(seed),
      false,
    );
  });
});

describe('fine tuning and warm start', () => {
  const isDense = (name: string) => name.includes('dense');
  const isStatistic = (name: string) => /\/moving_(mean|variance)$/.test(name);

  it('--pretrained_model_checkpoint_path gives everything but the dense layer; --fine_tune trains that alone', async () => {
    await run(flags('base', '--train_epochs=1'));
    const base = readCheckpoint(model('base'), 5);
    for (const [name, more] of [
      ['tuned', []],
      ['tuned-mirrored', mirrored],
    ] as const) {
      const from = `--pretrained_model_checkpoint_path=${model('base')}/ckpt-5`;
      const tune = [from, '--fine_tune', '--train_epochs=2', '--epochs_between_evals=1', ...more];
      const { status, text, result } = await run(flags(name, ...tune), { seed: 2 });
      assert.equal(status, 0, text);
      assert.match(text, /^Everything but the dense layer is initialized from .*base\/ckpt-5\.safetensors$/m);
      const tuned = readCheckpoint(model(name), 10);
      // All weights are there, slots only for what is trained; batch norm's averages move on, as upstream.
      assert.deepEqual(
        Object.keys(tuned.tensors).sort(),
        Object.keys(base.tensors)
          .filter((tensor) => !tensor.endsWith('/momentum') || isDense(tensor))
          .sort(),
      );
      const same = {
        ...base,
        tensors: Object.fromEntries(Object.entries(base.tensors).filter(([tensor]) => tensor in tuned.tensors)),
      };
      const different = differences(same, tuned);
      assert.deepEqual(different.filter((tensor) => !isStatistic(tensor)).every(isDense), true, different.join());
      assert.ok(different.includes('resnet_model/dense/kernel') && different.some(isStatistic));
      assert.ok((result?.evaluation?.loss ?? Number.NaN) > 0);

      // The folder's own checkpoint goes before the other run's; then all layers are trained, with new slots.
      const full = await run(flags(name, from, '--train_epochs=3', ...more), { seed: 2 });
      assert.equal(full.status, 0, full.text);
      assert.match(full.text, /Restored step 10 from/);
      assert.doesNotMatch(full.text, /is initialized from/);
      assert.ok(differences(tuned, readCheckpoint(model(name), 15)).includes('resnet_model/conv2d/kernel'));
    }
  });

  it('a warm start without training evaluates with the other run’s weights, and its dense layer anew', async () => {
    await run(flags('warm-base', '--train_epochs=1'));
    await run(
      flags(
        'warm',
        `--pretrained_model_checkpoint_path=${model('warm-base')}`,
        '--train_epochs=1',
        '--max_train_steps=1',
      ),
    );
    const [base, warm] = [readCheckpoint(model('warm-base'), 5), readCheckpoint(model('warm'), 1)];
    // After one step weights are near those that they began with.
    const kernel = (file: typeof base) => file.tensors['resnet_model/conv2d_3/kernel']!.values;
    const gap = Math.max(...Array.from(kernel(base), (value, i) => Math.abs(value - kernel(warm)[i]!)));
    assert.ok(gap > 0 && gap < 0.1, String(gap));
  });

  it('checkpoints that are not there, damaged, or of another network are named', async () => {
    await run(flags('pre', '--train_epochs=1'));
    const failing = async (path: string, pattern: RegExp, ...more: string[]) => {
      const { status, text } = await run(
        flags('pre-x', `--pretrained_model_checkpoint_path=${path}`, '--train_epochs=1', ...more),
      );
      assert.equal(status, 1, text);
      assert.match(text, pattern);
    };
    await failing(model('nowhere'), /There is no checkpoint at .*nowhere\.\nhelp: /);
    const path = join(model('pre'), 'ckpt-5.safetensors');
    await failing(
      path,
      /has \d+ elements for resnet_model\/.*, expected \d+\.\nhelp: .*same --resnet_size and --resnet_version/,
      '--resnet_version=2',
    );
    truncateSync(path, 5000);
    await failing(path, /Checkpoint .*ckpt-5\.safetensors .*\nhelp: choose another checkpoint/);
  });
});

describe('--resume and --clean', () => {
  it('--noresume refuses a folder that has a checkpoint', async () => {
    await run(flags('resume', '--train_epochs=1'));
    const { status, text } = await run(flags('resume', '--train_epochs=2', '--noresume'));
    assert.equal(status, 2, text);
    assert.match(text, /flag --resume=false: .*resume has a checkpoint of step 5\. .*--clean/);
    const anew = await run(flags('resume', '--train_epochs=2', '--noresume', '--clean'));
    assert.equal(anew.status, 0, anew.text);
    assert.match(anew.text, /--clean flag set\. Removing existing model dir: /);
    assert.doesNotMatch(anew.text, /Restored/);
  });

  it('--clean deletes only a folder that looks like a model folder', async () => {
    const { text } = await run(flags('cleaned', '--train_epochs=1'));
    assert.doesNotMatch(text, /--clean/);
    writeFileSync(join(model('cleaned'), 'thesis.txt'), 'three years');
    const refused = await run(flags('cleaned', '--train_epochs=1', '--clean'));
    assert.notEqual(refused.status, 0);
    assert.match(refused.text, /--clean does not delete --model_dir=.*: it contains thesis\.txt/);
    assert.ok(existsSync(join(model('cleaned'), 'thesis.txt')));
  });
});

describe('bad input', () => {
  const failing = async (argv: string[], status: number, ...patterns: RegExp[]) => {
    const { status: actual, text } = await run(argv);
    assert.equal(actual, status, text);
    for (const pattern of patterns) assert.match(text, pattern);
    // A person, not a programmer, reads this.
    assert.doesNotMatch(text, /^\s+at /m);
    return text;
  };

  it('data that is missing, cut off, or has a label out of range', async () => {
    await failing(
      [`--data_dir=${model('no-data')}`, `--model_dir=${model('x')}`],
      1,
      /^Run cifar10_download_and_extract\.py first/m,
      /^help: /m,
    );
    assert.ok(!existsSync(model('x')), 'nothing is made before the data was read');
    const bad = writeData(model('bad-data'));
    truncateSync(join(bad, 'test_batch.bin'), 5000);
    await failing([`--data_dir=${bad}`, `--model_dir=${model('x')}`], 1, /test_batch\.bin has 5000 bytes/);
    writeData(bad);
    const { writeSync, openSync, closeSync } = await import('node:fs');
    const descriptor = openSync(join(bad, 'data_batch_1.bin'), 'r+');
    writeSync(descriptor, Uint8Array.of(200), 0, 1, 0);
    closeSync(descriptor);
    await failing(
      [`--data_dir=${bad}`, `--model_dir=${model('x')}`],
      1,
      /record 0 has label 200, which is not in 0\.\.9/,
    );
  });

  it('sizes and batches that cannot be', async () => {
    for (const size of ['21', '2', '0']) {
      await failing(
        flags('x', `--resnet_size=${size}`),
        2,
        new RegExp(`flag --resnet_size=${size}: resnet_size must be 6n \\+ 2: ${size}\\. Give 6n \\+ 2: 8, 14`),
      );
    }
    for (const size of ['0x14', '20.0', '2e1', '-4', '']) {
      await failing(flags('x', `--resnet_size=${size}`), 2, new RegExp(`flag --resnet_size=${size}: not a number`));
    }
    await failing(flags('x', '--resnet_size=600002'), 2, /flag --resnet_size=600002: too large/);
    await failing(flags('x', '--resnet_size=large'), 2, /flag --resnet_size=large: not a number/);
    await failing(flags('x', '--batch_size=0'), 2, /flag --batch_size=0: value should be at least 1/);
    await failing(
      flags('x', '--batch_size=7', ...mirrored),
      1,
      /When running with multiple CPU devices, batch size must be a multiple of the number of available CPU devices\. Found 2 CPU devices with a batch size of 7; try --batch_size=6 instead\./,
    );
    await failing(flags('x', '--batchsize=7'), 2, /Did you mean --batch_size=7\?/);
    await failing(
      flags('x', '--image_bytes_as_serving_input'),
      1,
      /^--image_bytes_as_serving_input cannot be set to True for CIFAR\. This flag is only applicable to ImageNet\.$/m,
    );
  });

  it('a damaged checkpoint is named and passed over; one of another network is an error', async () => {
    await run(flags('damaged', '--train_epochs=2', '--epochs_between_evals=1'));
    truncateSync(join(model('damaged'), 'ckpt-10.safetensors'), 9999);
    const { status, text, result } = await run(flags('damaged', '--train_epochs=2', '--epochs_between_evals=1'));
    assert.equal(status, 0, text);
    assert.match(text, /Checkpoint .*ckpt-10\.safetensors .*; it is passed over for the one before it\./);
    assert.match(text, /Restored step 5 from .*ckpt-5\.safetensors/);
    assert.equal(result?.globalStep, 10);
    await failing(
      flags('damaged', '--train_epochs=3', '--resnet_version=2'),
      1,
      /Checkpoint .* it is of ResNet-8 v1, this run trains ResNet-8 v2\./,
      /help: another --model_dir, or --clean/,
    );
  });

  it('a loss that becomes NaN stops, names the step, and keeps the last good checkpoint', async () => {
    await run(flags('nan', '--train_epochs=1'));
    const good = readCheckpoint(model('nan'), 5);
    // A loss scale beyond the largest f32 makes every gradient infinite.
    const text = await failing(
      flags('nan', '--train_epochs=2', '--loss_scale=1e39', '--save_checkpoints_steps=1'),
      1,
      /A gradient became infinite or NaN \(loss [\d.]+\) in step 6; training stops\./,
      /help: .*the last good checkpoint is .*ckpt-5\.safetensors/,
    );
    assert.doesNotMatch(text, /Saved/);
    assert.deepEqual(checkpoints('nan'), ['ckpt-5.safetensors']);
    assert.deepEqual(differences(readCheckpoint(model('nan'), 5), good), []);
  });

  it('weights that make the loss NaN: the same', async () => {
    await run(flags('nan-loss', '--train_epochs=1'));
    const { tensors, metadata } = readCheckpoint(model('nan-loss'), 5);
    const bias = tensors['resnet_model/dense/bias']!.values;
    bias.fill(Number.NaN);
    new CheckpointManager(model('nan-loss')).save(5, { tensors, metadata });
    await failing(flags('nan-loss', '--train_epochs=2'), 1, /Loss became NaN in step 6; training stops\./);
    assert.deepEqual(checkpoints('nan-loss'), ['ckpt-5.safetensors']);
  });

  it('a model folder that cannot be made says so', async () => {
    const file = model('file');
    writeFileSync(file, '');
    await failing(flags('file/model'), 1, new RegExp(`--model_dir=${file}/model cannot be written to: `), /^help: /m);
  });
});
