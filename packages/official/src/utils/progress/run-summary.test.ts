/** What a run came to, against figures by hand. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RunSummary } from './run-summary.js';

const step = (globalStep: number, scale = 1) => ({
  ...{
    globalStep,
    totalSteps: 9,
    epoch: 0,
    loss: 1,
    crossEntropy: 1,
    accuracy: 1,
    callAccuracy: 1,
    callAccuracyTop5: 1,
    lossScale: 1,
    gradientBytes: 4,
    learningRate: 1,
  },
  ...{
    stepMs: 20 * scale,
    phases: { input: 0.01, forward: 5 * scale, backward: 10 * scale, reduce: 2 * scale, update: 1 * scale },
  },
});

describe("a run's summary", () => {
  it('says how well, how fast, where the time went, and where to look', () => {
    let now = 1000;
    const options = { batchSize: 60, replicas: 3, modelDir: 'a model', hasEvents: true, now: () => now };
    const summary = new RunSummary(options);
    assert.deepEqual(summary.lines, []);
    summary.callBegins(100);
    // The first one warms up.
    summary.step(step(101, 50));
    summary.step(step(105));
    summary.step(step(110));
    now += 1500;
    summary.callEnds(110);
    for (const [accuracy, globalStep] of [
      [0.5, 110],
      [0.75, 115],
      [0.7, 120],
    ] as const) {
      summary.evaluation({ accuracy, accuracyTop5: 0.9, loss: 1, globalStep });
    }
    // Time between train calls is no training.
    now += 60_000;
    summary.callBegins(110);
    now += 500;
    summary.callEnds(120);
    assert.deepEqual(summary.lines, [
      'Best accuracy: 75.00 % at step 115, top 5 90.00 %',
      'Throughput: 600 images/s, 200 on each of 3 replicas; 20 steps in 2.0 s of training',
      'Efficiency: 90.0 %; 10.0 % of a step the chief’s replica waits for others and for packs',
      'Time of a step: 20.0 ms; backward 50 %, forward 25 %, reduce 10 %, other 10 %, update 5 %',
      "Files: a model; to look at them: lockstep board 'a model'",
    ]);
  });

  it('leaves out what there is not', () => {
    let now = 0;
    const summary = new RunSummary({ batchSize: 8, replicas: 1, modelDir: 'm', hasEvents: false, now: () => now });
    summary.callBegins(0);
    now = 10_000;
    summary.callEnds(1);
    assert.deepEqual(summary.lines, ['Throughput: 1 images/s; 1 step in 10 s of training', 'Files: m']);
  });
});
