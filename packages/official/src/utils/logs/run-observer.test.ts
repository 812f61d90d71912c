/** Observers: each is told everything in order, and hooks are called around train calls and steps as upstream's are. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TrainHook } from './hooks.js';
import { HooksObserver } from './hooks-observer.js';
import { observeAll, type RunObserver, type StepReport } from './run-observer.js';

const step = (globalStep: number): StepReport => ({
  globalStep,
  totalSteps: 4,
  epoch: globalStep,
  loss: 2,
  crossEntropy: 1,
  accuracy: 1,
  callAccuracy: 0.5,
  callAccuracyTop5: 0.75,
  lossScale: 1,
  gradientBytes: 4000,
  learningRate: 0.1,
  stepMs: 10,
  phases: { input: 1, forward: 2, backward: 3, reduce: 4, update: 5 },
});

describe('observers', () => {
  it('are told in turn what they ask for; one that wants every step is enough', () => {
    const told: string[] = [];
    const note = (text: string) => () => {
      told.push(text);
    };
    const first: RunObserver = { step: note('first: step'), line: note('first: line') };
    const second: RunObserver = {
      wantsEveryStep: true,
      step: note('second: step'),
      evaluation: note('second: evaluation'),
    };
    const all = observeAll([first, second]);
    all.begin({ modelName: 'm', datasetName: 'd', parameters: {} });
    all.line('text', false);
    all.callBegins(0);
    all.step(step(1));
    all.evaluation({ accuracy: 0, accuracyTop5: 1, loss: 2, globalStep: 1 });
    all.checkpoint('path', 1);
    assert.deepEqual(told, ['first: line', 'first: step', 'second: step', 'second: evaluation']);
    assert.deepEqual([all.wantsEveryStep, observeAll([first]).wantsEveryStep], [true, false]);
  });

  it('hooks: begun and ended with each call, asked before each step, told after it', () => {
    const calls: unknown[] = [];
    const hook: TrainHook = {
      name: 'test',
      begin: (globalStep) => calls.push(['begin', globalStep]),
      beforeRun: (at) => {
        calls.push(['before', at]);
        return [];
      },
      afterRun: (at, values, phases) => calls.push(['after', at, values, phases]),
      end: (at) => calls.push(['end', at]),
    };
    const observer = new HooksObserver([hook]);
    observer.callBegins(6);
    observer.step(step(7));
    observer.callEnds(7);
    observer.callBegins(7);
    const values = { learning_rate: 0.1, cross_entropy: 1, train_accuracy: 0.5 };
    assert.deepEqual(calls, [
      ['begin', 6],
      ['before', 6],
      ['after', 7, values, [step(7).phases]],
      ['before', 7],
      ['end', 7],
      ['begin', 7],
      ['before', 7],
    ]);
    assert.deepEqual([observer.wantsEveryStep, new HooksObserver([]).wantsEveryStep], [true, false]);
  });
});
