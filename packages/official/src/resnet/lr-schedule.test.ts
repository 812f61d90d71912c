/*
 * The schedules against the published boundaries and rates of the recipes, and against closed forms.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  CIFAR10_RECIPE,
  decaySteps,
  IMAGENET_FINE_TUNE_RECIPE,
  IMAGENET_RECIPE,
  larsPeak,
  larsSchedule,
  learningRateWithDecay,
  piecewiseConstant,
} from './lr-schedule.js';

const close = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) <= 1e-12 * Math.max(1, Math.abs(expected)), `${actual} is not ${expected}`);

describe('piecewiseConstant', () => {
  it('keeps the earlier value at a boundary', () => {
    const f = piecewiseConstant([10, 20], [1, 2, 3]);
    assert.deepEqual([0, 10, 11, 20, 21, 1e9].map(f), [1, 1, 2, 2, 3, 3]);
  });
  it('needs one value more than boundaries', () => {
    assert.throws(() => piecewiseConstant([1], [1]), RangeError);
  });
});

describe('learningRateWithDecay', () => {
  it('CIFAR-10, batch 128: 0.1, boundaries 35546, 53125, 71093', () => {
    const options = { ...CIFAR10_RECIPE, batchSize: 128 };
    assert.deepEqual(decaySteps(options), { boundaries: [35546, 53125, 71093], warmupSteps: 0 });
    const lr = learningRateWithDecay(options);
    for (const [step, rate] of [
      [0, 0.1],
      [35546, 0.1],
      [35547, 0.01],
      [53125, 0.01],
      [53126, 0.001],
      [71093, 0.001],
      [71094, 0.0001],
    ] as const) {
      close(lr(step), rate);
    }
  });

  it('ImageNet, batch 256: 0.128, warm-up 25022 steps, boundaries 150136, 300273, 400364, 450410', () => {
    const options = { ...IMAGENET_RECIPE, batchSize: 256 };
    assert.deepEqual(decaySteps(options), { boundaries: [150136, 300273, 400364, 450410], warmupSteps: 25022 });
    const lr = learningRateWithDecay(options);
    assert.equal(lr(0), 0);
    close(lr(12511), 0.064);
    close(lr(25021), (0.128 * 25021) / 25022);
    for (const [step, rate] of [
      [25022, 0.128],
      [150136, 0.128],
      [150137, 0.0128],
      [300274, 0.00128],
      [400365, 0.000128],
      [450411, 0.0000128],
    ] as const) {
      close(lr(step), rate);
    }
  });

  it('ImageNet, batch 2048: 1.024, warm-up 3127, boundaries 18767, 37534, 50045, 56301', () => {
    const options = { ...IMAGENET_RECIPE, batchSize: 2048 };
    assert.deepEqual(decaySteps(options), { boundaries: [18767, 37534, 50045, 56301], warmupSteps: 3127 });
    close(learningRateWithDecay(options)(3127), 1.024);
  });

  it('fine tuning starts at 0.1 without warm-up', () => {
    close(learningRateWithDecay({ ...IMAGENET_FINE_TUNE_RECIPE, batchSize: 256 })(0), 0.1);
  });

  it('the base rate defaults to 0.1 and grows with the batch', () => {
    const { baseLr: _, ...rest } = CIFAR10_RECIPE;
    close(learningRateWithDecay({ ...rest, batchSize: 512 })(0), 0.4);
  });

  it('a data set too small for warm-up steps has none, and nothing is NaN', () => {
    const lr = learningRateWithDecay({ ...IMAGENET_RECIPE, numImages: 10, batchSize: 256 });
    close(lr(0), 0.128);
  });

  it('refuses batches that are not positive', () => {
    for (const batchSize of [0, -1, Number.NaN]) {
      assert.throws(() => learningRateWithDecay({ ...CIFAR10_RECIPE, batchSize }), /batchSize/);
    }
  });
});

describe('larsSchedule', () => {
  it('peaks by batch size', () => {
    assert.deepEqual(
      [1, 8191, 8192, 16383, 16384, 32767, 32768].map((batch) => Object.values(larsPeak(batch))),
      [
        [5, 5],
        [5, 5],
        [10, 5],
        [10, 5],
        [25, 5],
        [25, 5],
        [32, 14],
      ],
    );
  });

  it('warms up linearly, decays quadratically to 1e-4 at epoch 90', () => {
    // 1,280 images in batches of 128: 10 steps an epoch, 50 warm-up steps, decay over 900 - 50 + 1 steps.
    const lr = larsSchedule({ flagBatchSize: 128, numImages: 1280 });
    assert.equal(lr(0), 0);
    close(lr(25), 2.5);
    close(lr(50), 5);
    const decay = (k: number) => (5 - 1e-4) * (1 - k / 851) ** 2 + 1e-4;
    for (const step of [51, 52, 100, 475, 900]) close(lr(step), decay(step - 50));
    close(lr(901), 1e-4);
    close(lr(5000), 1e-4);
  });

  it('takes the peak from the flag and the steps from the global batch', () => {
    const lr = larsSchedule({ flagBatchSize: 4096, batchSize: 16384, numImages: 1_281_167 });
    close(lr(Math.trunc((5 * 1_281_167) / 16384)), 5);
  });

  it('is finite and within [0, peak] for every batch and step', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 65536 }),
        fc.nat(10_000_000),
        fc.integer({ min: 1, max: 2e6 }),
        (b, step, n) => {
          const rate = larsSchedule({ flagBatchSize: b, numImages: n })(step);
          assert.ok(rate >= 0 && rate <= larsPeak(b).peak);
        },
      ),
    );
  });
});
