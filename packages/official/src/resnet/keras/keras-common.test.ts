/** The Keras variant's figures, clock and schedules: upstream's keras_common_test, and the published schedules. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import '../../testing/provider.js';
import * as tf from '@tensorflow/tfjs-core';
import { layers, sequential } from '@tensorflow/tfjs-layers';
import { on } from '../../testing/provider.js';
import {
  buildStats,
  cifar10Schedule,
  imagenetSchedule,
  LearningRateBatchScheduler,
  TimeHistory,
} from './keras-common.js';
import { kerasCifar10Model, kerasImagenetModel, trivialModel } from './keras-models.js';

describe('build_stats', () => {
  for (const metric of ['categorical_accuracy', 'sparse_categorical_accuracy', 'acc']) {
    it(`takes the last values of the history, with ${metric}`, () => {
      const time = new TimeHistory(128, 100);
      time.timestampLog = [0, 1, 2].map((batchIndex) => ({ batchIndex, timestamp: batchIndex + 1 }));
      time.trainFinishTime = 12345;
      const history = { loss: [3, 1.145], [metric]: [0.5, 0.99988] };
      const stats = buildStats(history, [5.99, 0.56432111], time);
      assert.equal(stats.loss, 1.145);
      assert.equal(stats.training_accuracy_top_1, 0.99988);
      assert.equal(stats.accuracy_top_1, 0.56432111);
      assert.equal(stats.eval_loss, 5.99);
      assert.equal(stats.step_timestamp_log?.[2]?.timestamp, 3);
      assert.equal(stats.train_finish_time, 12345);
      // 200 steps of 128 in two seconds.
      assert.equal(stats.avg_exp_per_second, 12_800);
    });
  }

  it('leaves out what there was not', () => {
    assert.deepEqual(buildStats(null, null, null), {});
    assert.deepEqual(Object.keys(buildStats({ loss: [1] }, null, new TimeHistory(1, 1))).sort(), [
      'loss',
      'step_timestamp_log',
    ]);
  });
});

describe('TimeHistory', () => {
  it('notes every third step, also where an epoch ends in between', async () => {
    let clock = 100;
    const lines: string[] = [];
    const time = new TimeHistory(
      128,
      3,
      (line) => lines.push(line),
      () => clock,
    );
    for (let step = 0; step <= 6; step++) {
      // Each epoch has four batches; a step takes a second, the last one two.
      clock += step === 6 ? 2 : 1;
      await time.onBatchEnd();
    }
    await time.onTrainEnd();
    assert.deepEqual(time.timestampLog, [
      { batchIndex: 0, timestamp: 101 },
      { batchIndex: 3, timestamp: 104 },
      { batchIndex: 6, timestamp: 108 },
    ]);
    assert.equal(time.trainFinishTime, 108);
    assert.deepEqual(lines, [
      "BenchmarkMetric: {'num_batches':3, 'time_taken': 3.000000,'examples_per_second': 128.000000}",
      "BenchmarkMetric: {'num_batches':6, 'time_taken': 4.000000,'examples_per_second': 96.000000}",
    ]);
  });
});

describe('the schedules', () => {
  it('are upstream’s', () => {
    const near = (actual: number, expected: number) =>
      assert.ok(Math.abs(actual - expected) < 1e-12, `${actual}, expected ${expected}`);
    const cifar = cifar10Schedule(256);
    for (const [epoch, rate] of [
      [0, 0.2],
      [90, 0.2],
      [91, 0.02],
      [135, 0.02],
      [136, 0.002],
      [182, 0.0002],
    ] as const) {
      near(cifar(epoch, 10, 390), rate);
    }
    const imagenet = imagenetSchedule(512);
    for (const [epoch, batch, rate] of [
      [0, 0, 0],
      [0, 50, 0.02],
      [2, 50, 0.1],
      [5, 0, 0.2],
      [29, 99, 0.2],
      [30, 0, 0.02],
      [60, 0, 0.002],
      [80, 1, 0.0002],
    ] as const) {
      near(imagenet(epoch, batch, 100), rate);
    }
  });

  it('reach the optimizer before every batch, and upstream’s errors say what cannot be', async () => {
    await on('cpu', async () => {
      const x = tf.ones([6, 1]);
      const y = tf.ones([6, 1]);
      const fit = async (optimizer: tf.Optimizer, schedule: () => number) => {
        const model = sequential({ layers: [layers.dense({ units: 1, inputShape: [1] })] });
        model.compile({ optimizer, loss: 'meanSquaredError' });
        await model.fit(x, y, {
          batchSize: 2,
          epochs: 2,
          verbose: 0,
          callbacks: [new LearningRateBatchScheduler(schedule, 3)],
        });
      };
      const seen: number[] = [];
      const optimizer = tf.train.momentum(1, 0.9);
      const set = optimizer.setLearningRate.bind(optimizer);
      optimizer.setLearningRate = (rate) => {
        seen.push(rate);
        set(rate);
      };
      let calls = 0;
      await fit(optimizer, () => ++calls / 100);
      assert.deepEqual(seen, [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]);
      await assert.rejects(
        fit(tf.train.adam(), () => 0.1),
        /^Error: Optimizer must have a "learning_rate" attribute\.$/,
      );
      await assert.rejects(
        fit(tf.train.momentum(1, 0.9), () => '0.1' as never),
        /^Error: The output of the "schedule" function should be float\.$/,
      );
    });
  });
});

describe('the Keras networks', () => {
  it('have as many parameters as their layers, and their shapes', async () => {
    await on('cpu', () => {
      // CIFAR-10, size 8: 76,976 weights of convolutions with an offset for each of their 352 channels, four numbers of each norm, dense.
      const cifar = kerasCifar10Model({ numClasses: 10, seed: 1 }, 8);
      assert.equal(cifar.countParams(), 76_976 + 352 + 4 * 352 + 650);
      assert.deepEqual(cifar.outputs[0]?.shape, [null, 10]);
      cifar.dispose();
      // ResNet-50 v1.5 with 1,001 classes: upstream's count of trainable ones, and two statistics of each of 26,560 channels.
      const imagenet = kerasImagenetModel({ numClasses: 1001, seed: 1 }, 224);
      assert.equal(imagenet.countParams(), 25_559_081 + 53_120);
      const shapes = imagenet.layers
        .filter(({ name }) => /^(max_pooling2d|global)/.test(name))
        .map(({ input }) => (input as { shape: number[] }).shape);
      assert.deepEqual(shapes, [
        [null, 114, 114, 64],
        [null, 7, 7, 2048],
      ]);
      imagenet.dispose();
      const trivial = trivialModel({ numClasses: 10, seed: 1 }, [32, 32, 3]);
      assert.equal(trivial.countParams(), 3073 * 10);
      trivial.dispose();
    });
  });
});
