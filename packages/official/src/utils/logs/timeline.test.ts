/** A timeline's file, against hand-made traces: times, tracks, nesting, arrows, and journeys between workers. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ReplicaTrace } from '@lockstep/distribute';
import { recordingLog } from './log.js';
import { type Timeline, timelineJson, writeTimeline } from './timeline.js';

const CLOCK = { offset: 0, error: 0 };

const span = (name: string, category: string, begin: number, end: number, args?: Record<string, number>) => ({
  ...{ name, category, begin, end },
  ...(args && { args }),
});

const REPLICAS: readonly ReplicaTrace[] = [
  {
    ...{ worker: 0, replica: 0, clock: CLOCK },
    // Inner spans are told before the outer one, as trainers do.
    spans: [
      span('forward', 'step', 1000, 1004),
      span('conv2d', 'layer', 1000, 1003),
      span('reduce pack 1', 'pack', 1005, 1006, { pack: 1 }),
      span('step 7', 'step', 1000, 1010, { step: 7 }),
    ],
    filled: [{ pack: 1, at: 1004.5 }],
    journeys: [{ pack: 1, bytes: 64, begin: 1006, end: 1009 }],
  },
  {
    ...{ worker: 2, replica: 1, clock: { offset: 12, error: 0.25 } },
    spans: [span('step 7', 'step', 1001, 1010, { step: 7 }), span('update pack 1', 'pack', 1009, 1010, { pack: 1 })],
    filled: [{ pack: 1, at: 1008 }],
    journeys: [],
  },
];
const TIMELINE: Timeline = { first: 7, last: 7, isAsked: true, replicas: REPLICAS };

describe('a timeline', () => {
  const { traceEvents, metadata } = timelineJson(TIMELINE);

  it('has a process for each worker and a track for each replica', () => {
    const named = traceEvents.filter(({ ph, name }) => ph === 'M' && name.endsWith('_name'));
    assert.deepEqual(
      named.map(({ name, pid, tid, args }) => [name, pid, tid, args?.name]),
      [
        ['process_name', 0, 0, 'worker 0'],
        ['process_name', 2, 0, 'worker 2'],
        ['thread_name', 0, 0, 'replica 0'],
        ['thread_name', 2, 1, 'replica 1'],
      ],
    );
  });

  it('begins with the first span, in microseconds, the outer of two spans first', () => {
    const spans = traceEvents.filter(({ ph, pid }) => ph === 'X' && pid === 0);
    assert.deepEqual(
      spans.map(({ name, ts, dur }) => [name, ts, dur]),
      [
        ['step 7', 0, 10_000],
        ['forward', 0, 4000],
        ['conv2d', 0, 3000],
        ['reduce pack 1', 5000, 1000],
      ],
    );
  });

  it('leads from a pack’s last gradient to where its own process takes the pack on', () => {
    const flows = traceEvents.filter(({ cat }) => cat === 'flow');
    assert.deepEqual(
      flows.map(({ ph, id, pid, ts }) => [ph, id, pid, ts]),
      [
        ['s', '0.0', 0, 4500],
        ['f', '0.0', 0, 5500],
        ['s', '1.0', 2, 8000],
        ['f', '1.0', 2, 9500],
      ],
    );
  });

  it('has packs on their way between workers, with their bytes', () => {
    const [begin, end] = traceEvents.filter(({ cat }) => cat === 'network');
    assert.deepEqual([begin?.ph, begin?.ts, begin?.args], ['b', 6000, { pack: 1, bytes: 64 }]);
    assert.deepEqual([end?.ph, end?.ts, end?.id === begin?.id], ['e', 9000, true]);
  });

  it('says whose clock was corrected, and how exactly', () => {
    assert.deepEqual(metadata.replicas, [
      { worker: 0, replica: 0, clock_offset_ms: 0, clock_error_ms: 0 },
      { worker: 2, replica: 1, clock_offset_ms: 12, clock_error_ms: 0.25 },
    ]);
  });

  it('may be of thousands of steps', () => {
    const spans = Array.from({ length: 200_000 }, (_, i) => span('step', 'step', 5 + i, 6 + i));
    const one = { worker: 0, replica: 0, clock: CLOCK, spans, filled: [], journeys: [] };
    const slices = timelineJson({ ...TIMELINE, replicas: [one] }).traceEvents.filter(({ ph }) => ph === 'X');
    assert.deepEqual([slices.length, slices[0]?.ts, slices.at(-1)?.ts], [200_000, 0, 199_999_000]);
  });

  it('that cannot be written is a warning', () => {
    const log = recordingLog();
    writeTimeline('/proc/none', TIMELINE, log);
    assert.match(log.lines.join('\n'), /warning: .*\/proc\/none\/timeline-7\.json cannot be written/);
  });
});
