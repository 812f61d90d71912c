/** Which steps are traced: counted from where a train call began, as ProfilerHook counts them, whatever the loss scale skips. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { type DeviceDescription, listDevices, soloContext } from '@lockstep/distribute';
import { StepProfile } from './step-profile.js';

const [device] = listDevices({ numCpus: 1 }) as [DeviceDescription];

it('ProfilerHook’s step is so many global steps from the beginning of the train call', () => {
  const profile = new StepProfile({ everySteps: 3, steps: null }, soloContext({ device }));
  profile.callBegins(10);
  const traced: number[][] = [];
  // The first two attempts at step 11 were skipped.
  for (const step of [11, 11, 11, 12, 13, 14, 15, 16]) {
    profile.before(step);
    const begin = performance.now();
    const timeline = profile.after(step, begin, begin);
    if (timeline) traced.push([timeline.first, timeline.last]);
  }
  assert.deepEqual(traced, [
    [13, 13],
    [16, 16],
  ]);
  assert.equal(profile.finish(), null);
});
