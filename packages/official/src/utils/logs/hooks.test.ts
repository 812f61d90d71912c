/*
 * The hooks against upstream's hooks_test.py, hooks_helper_test.py and metric_hook_test.py, with a clock that the test
 * moves itself.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import {
  type chromeTrace,
  ExamplesPerSecondHook,
  LoggingTensorHook,
  ProfilerHook,
  SecondOrStepTimer,
  type TrainHook,
} from './hooks.js';
import { getTrainHooks, TENSORS_TO_LOG } from './hooks-helper.js';
import { HooksObserver } from './hooks-observer.js';
import { recordingLog, silentLog } from './log.js';
import { BaseBenchmarkLogger, type MetricOptions } from './logger.js';
import { LoggingMetricHook } from './metric-hook.js';

class RecordingLogger extends BaseBenchmarkLogger {
  readonly metrics: [string, unknown, number | null | undefined][] = [];
  override logMetric(name: string, value: unknown, options: MetricOptions = {}): void {
    this.metrics.push([name, value, options.globalStep]);
  }
}

/** A clock in seconds that stands still until it is moved. */
function fakeClock(): { (): number; now: number } {
  const clock = () => clock.now;
  clock.now = 100;
  return clock;
}

function runSteps(hook: TrainHook, steps: number, each: (step: number) => Record<string, number> = () => ({})): void {
  hook.begin(0);
  for (let step = 1; step <= steps; step++) {
    hook.beforeRun(step - 1);
    hook.afterRun(step, each(step));
  }
}

describe('SecondOrStepTimer', () => {
  it('is due at first, then by steps, once per step', () => {
    const timer = new SecondOrStepTimer({ everySteps: 3 });
    assert.equal(timer.shouldTriggerForStep(5), true);
    assert.equal(timer.updateLastTriggeredStep(5), null);
    assert.deepEqual(
      [5, 6, 7, 8, 9].map((step) => timer.shouldTriggerForStep(step)),
      [false, false, false, true, true],
    );
  });

  it('is due by seconds', () => {
    const clock = fakeClock();
    const timer = new SecondOrStepTimer({ everySecs: 2 }, clock);
    timer.updateLastTriggeredStep(0);
    clock.now += 1.9;
    assert.equal(timer.shouldTriggerForStep(1), false);
    clock.now += 0.2;
    assert.equal(timer.shouldTriggerForStep(1), true);
    const elapsed = timer.updateLastTriggeredStep(1)!;
    assert.equal(elapsed.steps, 1);
    assert.ok(Math.abs(elapsed.secs - 2.1) < 1e-9);
  });
});

describe('ExamplesPerSecondHook', () => {
  it('needs exactly one interval, and a global step', () => {
    const metricLogger = new RecordingLogger();
    const message = 'exactly one of every_n_steps and every_n_secs should be provided.';
    assert.throws(() => new ExamplesPerSecondHook({ batchSize: 256, metricLogger }), { message });
    const both = { batchSize: 256, everyNSteps: 5, everyNSecs: 20, metricLogger };
    assert.throws(() => new ExamplesPerSecondHook(both), { message });
    const hook = new ExamplesPerSecondHook({ batchSize: 1, everyNSteps: 1, metricLogger });
    assert.throws(() => hook.begin(), { message: 'Global step should be created to use StepCounterHook.' });
  });

  for (const everyNSteps of [1, 5]) {
    for (const warmSteps of [0, 10]) {
      it(`logs average, then current, every ${everyNSteps} steps after ${warmSteps}`, () => {
        const clock = fakeClock();
        const metricLogger = new RecordingLogger();
        const hook = new ExamplesPerSecondHook({ batchSize: 256, everyNSteps, warmSteps, metricLogger, clock });
        // Step k takes k/8 seconds, so that current and average differ and sums are exact.
        const secsUntil = (step: number) => (step * (step + 1)) / 16;
        const first = warmSteps + 1;
        const due = Array.from({ length: 4 }, (_, i) => first + (i + 1) * everyNSteps);
        const counts: number[] = [];
        runSteps(hook, due.at(-1)!, (step) => {
          counts.push(metricLogger.metrics.length);
          clock.now = 100 + secsUntil(step);
          return {};
        });
        assert.equal(counts[due[0]! - 1], 0, 'nothing before the first step that is due');
        const expected = due.flatMap((step): [string, number, number][] => {
          const before = step - everyNSteps;
          const current = (256 * everyNSteps) / (secsUntil(step) - secsUntil(before));
          const average = (256 * (step - first)) / (secsUntil(step) - secsUntil(first));
          return [
            ['average_examples_per_sec', average, step],
            ['current_examples_per_sec', current, step],
          ];
        });
        assert.deepEqual(metricLogger.metrics, expected);
        const currents = expected.filter(([name]) => name.startsWith('current')).map(([, value]) => value);
        assert.deepEqual(hook.currentExamplesPerSecList, currents);
      });
    }
  }

  it('logs by seconds', () => {
    const clock = fakeClock();
    const metricLogger = new RecordingLogger();
    const hook = new ExamplesPerSecondHook({ batchSize: 10, everyNSecs: 1, metricLogger, clock });
    runSteps(hook, 9, () => {
      clock.now += 0.25;
      return {};
    });
    assert.deepEqual(metricLogger.metrics, [
      ['average_examples_per_sec', 40, 5],
      ['current_examples_per_sec', 40, 5],
      ['average_examples_per_sec', 40, 9],
      ['current_examples_per_sec', 40, 9],
    ]);
  });
});

describe('LoggingTensorHook and LoggingMetricHook', () => {
  const tensors = ['learning_rate', 'cross_entropy'];
  const values = (step: number) => ({ learning_rate: 0.1, cross_entropy: step / 3, unused: 1 });

  it('need one interval, which is positive', () => {
    const metricLogger = new RecordingLogger();
    const message = 'either at_end and/or exactly one of every_n_iter and every_n_secs must be provided.';
    assert.throws(() => new LoggingMetricHook({ tensors, metricLogger }), { message });
    const both = { tensors, everyNIter: 5, everyNSecs: 5, metricLogger };
    assert.throws(() => new LoggingMetricHook(both), { message });
    assert.throws(() => new LoggingMetricHook({ ...both, atEnd: true }), { message });
    for (const everyNIter of [0, -10]) {
      const options = { tensors, everyNIter, metricLogger };
      assert.throws(() => new LoggingMetricHook(options), { message: `invalid every_n_iter=${everyNIter}.` });
    }
    const none = { tensors, everyNIter: 5, metricLogger: undefined as unknown as BaseBenchmarkLogger };
    assert.throws(() => new LoggingMetricHook(none), { message: 'metric_logger should be provided.' });
    const hook = new LoggingMetricHook({ tensors, everyNIter: 5, metricLogger });
    assert.throws(() => hook.begin(), { message: 'Global step should be created to use LoggingMetricHook.' });
  });

  it('log at the end only', () => {
    const metricLogger = new RecordingLogger();
    const hook = new LoggingMetricHook({ tensors, atEnd: true, metricLogger });
    hook.begin(0);
    for (let step = 1; step <= 3; step++) {
      assert.deepEqual(hook.beforeRun(step - 1), []);
      hook.afterRun(step, values(step));
    }
    assert.deepEqual(metricLogger.metrics, []);
    hook.end(3, values(3));
    assert.deepEqual(metricLogger.metrics, [
      ['learning_rate', 0.1, 3],
      ['cross_entropy', 1, 3],
    ]);
  });

  for (const atEnd of [false, true]) {
    it(`log the first step and every tenth after it${atEnd ? ', and the end' : ''}`, () => {
      const metricLogger = new RecordingLogger();
      const hook = new LoggingMetricHook({ tensors, everyNIter: 10, atEnd, metricLogger });
      runSteps(hook, 25, values);
      hook.end(25);
      assert.deepEqual(
        metricLogger.metrics.filter(([name]) => name === 'cross_entropy').map(([, , step]) => step),
        [1, 11, 21, ...(atEnd ? [25] : [])],
      );
    });
  }

  it('log by seconds', () => {
    const clock = fakeClock();
    const metricLogger = new RecordingLogger();
    const hook = new LoggingMetricHook({ tensors: ['learning_rate'], everyNSecs: 1, metricLogger, clock });
    hook.begin(0);
    for (let step = 1; step <= 9; step++) {
      hook.beforeRun(step - 1);
      hook.afterRun(step, values(step));
      clock.now += 0.25;
    }
    assert.deepEqual(
      metricLogger.metrics.map(([, , step]) => step),
      [1, 5, 9],
    );
  });

  it('asks for its values only when it is due, and misses none in silence', () => {
    const hook = new LoggingTensorHook({ tensors, everyNIter: 2, log: silentLog });
    hook.begin(0);
    assert.deepEqual(hook.beforeRun(0), tensors);
    hook.afterRun(1, values(1));
    assert.deepEqual(hook.beforeRun(1), []);
    hook.afterRun(2, {});
    assert.deepEqual(hook.beforeRun(2), tensors);
    assert.throws(
      () => hook.afterRun(3, { learning_rate: 1 }),
      /no value 'cross_entropy' at step 3; there are: learning_rate/,
    );
  });

  it('writes a readable line', () => {
    const clock = fakeClock();
    const log = recordingLog();
    const hook = new LoggingTensorHook({ tensors, everyNIter: 1, log, clock });
    runSteps(hook, 2, (step) => {
      clock.now += 1.25;
      return values(step);
    });
    assert.deepEqual(log.lines, [
      'info: learning_rate = 0.1, cross_entropy = 0.33333333',
      'info: learning_rate = 0.1, cross_entropy = 0.66666667 (1.250 sec)',
    ]);
  });
});

describe('ProfilerHook', () => {
  it('writes a Chrome trace every so many steps, the first after so many', () => {
    const outputDir = path.join(mkdtempSync(path.join(tmpdir(), 'profiler-')), 'made');
    try {
      const hook = new ProfilerHook({ saveSteps: 3, outputDir, log: silentLog });
      hook.begin(10);
      for (let step = 11; step <= 17; step++) hook.afterRun(step, {}, [{ forward: 1, backward: 2.5 }, { forward: 2 }]);
      assert.deepEqual(readdirSync(outputDir).sort(), ['timeline-13.json', 'timeline-16.json']);
      const { traceEvents } = JSON.parse(readFileSync(path.join(outputDir, 'timeline-13.json'), 'utf8')) as ReturnType<
        typeof chromeTrace
      >;
      assert.deepEqual(
        traceEvents.filter(({ ph }) => ph === 'X').map(({ name, tid, ts, dur }) => [name, tid, ts, dur]),
        [
          ['forward', 0, 0, 1000],
          ['backward', 0, 1000, 2500],
          ['forward', 1, 0, 2000],
        ],
      );
      assert.deepEqual(
        traceEvents.filter(({ ph }) => ph === 'M').map(({ args }) => args),
        [{ name: 'replica 0' }, { name: 'replica 1' }],
      );
    } finally {
      rmSync(path.dirname(outputDir), { recursive: true });
    }
  });

  it('writes nothing over a timeline that --profile_steps asked for', () => {
    const outputDir = mkdtempSync(path.join(tmpdir(), 'profiler-'));
    try {
      const hook = new ProfilerHook({ saveSteps: 3, outputDir, log: silentLog });
      const observer = new HooksObserver([hook]);
      observer.callBegins(0);
      for (let step = 1; step <= 6; step++) {
        if (step === 3) observer.timeline({ first: 3, last: 3, isAsked: true, replicas: [] });
        hook.afterRun(step, {}, [{ forward: 1 }]);
      }
      assert.deepEqual(readdirSync(outputDir), ['timeline-6.json']);
    } finally {
      rmSync(outputDir, { recursive: true });
    }
  });

  it('says once that there are no phases', () => {
    const log = recordingLog();
    const hook = new ProfilerHook({ saveSteps: 1, outputDir: '/nonexistent', log });
    runSteps(hook, 3);
    assert.equal(log.lines.length, 1);
    assert.match(log.lines[0]!, /warning: ProfilerHook: .*no timeline/);
    assert.throws(() => new ProfilerHook({ saveSteps: 0, outputDir: '/x' }), /save_steps=0/);
  });
});

describe('getTrainHooks', () => {
  it('builds each hook by its name, in any case and with blanks', () => {
    for (const [name, type] of [
      ['LoggingTensorHook', LoggingTensorHook],
      ['ProfilerHook', ProfilerHook],
      [' examplespersecondhook ', ExamplesPerSecondHook],
      ['LOGGINGMETRICHOOK', LoggingMetricHook],
    ] as const) {
      const hooks = getTrainHooks([name], { modelDir: dirForNothing });
      assert.equal(hooks.length, 1);
      assert.equal(hooks[0]!.constructor, type);
      assert.equal(hooks[0]!.name.toLowerCase(), name.trim().toLowerCase());
    }
  });

  it('keeps the order, and an empty list is no hooks', () => {
    const hooks = getTrainHooks(['LoggingMetricHook', 'LoggingTensorHook']);
    assert.deepEqual(
      hooks.map(({ name }) => name),
      ['LoggingMetricHook', 'LoggingTensorHook'],
    );
    assert.deepEqual(getTrainHooks([]), []);
    assert.deepEqual(hooks[1]!.beforeRun(0), TENSORS_TO_LOG);
  });

  it('uses the defaults: 100 steps after 5, batch 128', () => {
    const benchmarkLogger = new RecordingLogger();
    const [hook] = getTrainHooks(['ExamplesPerSecondHook'], { benchmarkLogger });
    runSteps(hook!, 206);
    assert.deepEqual(
      benchmarkLogger.metrics.map(([name, , step]) => [name, step]),
      [106, 206].flatMap((step) => [
        ['average_examples_per_sec', step],
        ['current_examples_per_sec', step],
      ]),
    );
  });

  it('refuses unknown names and a text in place of a list', () => {
    assert.throws(() => getTrainHooks(['FakeHook']), { message: 'Unrecognized training hook requested: FakeHook' });
    assert.throws(() => getTrainHooks('LoggingTensorHook'), { message: 'Unrecognized training hook requested: L' });
    assert.throws(() => getTrainHooks(['toString']), /Unrecognized training hook/);
    assert.throws(() => getTrainHooks(['ProfilerHook']), /--model_dir/);
  });

  it('runs none on a TPU', () => {
    const log = recordingLog();
    assert.deepEqual(getTrainHooks(['LoggingTensorHook', 'ProfilerHook'], { useTpu: true, log }), []);
    assert.deepEqual(log.lines, [
      'warning: hooks_helper received name_list `LoggingTensorHook,ProfilerHook`, but a TPU is specified. No hooks will be used.',
    ]);
  });
});

/** A folder that no hook of these tests writes to. */
const dirForNothing = path.join(tmpdir(), 'never-made');
