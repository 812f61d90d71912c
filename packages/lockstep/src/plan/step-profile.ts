/**
 * What a step on one worker is made of, from a timeline (`--profile_steps`): how long it computes, when each gradient is final, how long the
 * update takes, and how unlike its steps are.
 */
import type { StepProfile } from '@lockstep/distribute/step-model';
import type { TraceEvent } from '@lockstep/official';
import { summarize } from '../bench/statistics.js';

const median = (values: readonly number[]) => summarize(values).median;

interface Slice {
  readonly name: string;
  readonly cat: string;
  readonly begin: number;
  readonly end: number;
  readonly bytes: number;
}

/**
 * @param events of one timeline of one worker, which may have several replicas and steps
 * @throws Error for a file without whole steps
 */
export function readProfile(events: readonly TraceEvent[], file: string): StepProfile {
  const tracks = new Map<number, Slice[]>();
  for (const { ph, name, cat = '', tid, ts = 0, dur = 0, args } of events) {
    if (ph !== 'X') continue;
    const slice = { name, cat, begin: ts / 1000, end: (ts + dur) / 1000, bytes: Number(args?.bytes ?? 0) };
    const track = tracks.get(tid);
    if (track) track.push(slice);
    else tracks.set(tid, [slice]);
  }
  const workers = new Set(events.filter(({ ph }) => ph === 'X').map(({ pid }) => pid));
  const steps = [...tracks.values()].map((slices) => stepsOf(slices));
  const count = Math.min(...steps.map(({ length }) => length));
  if (tracks.size === 0 || !(count > 0)) {
    throw new Error(`${file} has no whole step in it.\nhelp: a run with --profile_steps=20,40 writes one that has.`);
  }
  if (workers.size > 1) {
    throw new Error(
      `${file} is of ${workers.size} workers.\nhelp: a plan begins with one: profile a run on one machine, without mpirun.`,
    );
  }
  const rounds = Array.from({ length: count }, (_, step) => steps.map((of) => of[step] as Step));
  // Replicas of a process wait for each other: the slowest one's time is the step's.
  const computeMs = median(rounds.map((round) => Math.max(...round.map((step) => step.computeMs))));
  const spread = steps.flatMap((of) => {
    const middle = median(of.map((step) => step.computeMs));
    return of.map((step) => step.computeMs / middle);
  });
  const [first] = steps as [Step[]];
  const gradients = (first[0] as Step).gradients.map(({ bytes }, i) => ({
    bytes,
    // In proportion, so that the last one is final when computing is over.
    atMs: Math.min(computeMs, median(first.map((step) => (step.gradients[i]?.atMs ?? 0) / step.computeMs)) * computeMs),
  }));
  const updateMs = median(rounds.map((round) => Math.min(...round.map((step) => step.updateMs))));
  return { computeMs, gradients, updateMs, spread, replicas: tracks.size };
}

interface Step {
  readonly computeMs: number;
  readonly updateMs: number;
  readonly gradients: readonly { readonly bytes: number; readonly atMs: number }[];
}

function stepsOf(slices: readonly Slice[]): Step[] {
  return slices
    .filter(({ name, cat }) => cat === 'step' && name.startsWith('step '))
    .toSorted((a, b) => a.begin - b.begin)
    .flatMap((step) => {
      const within = slices.filter((one) => one !== step && one.begin >= step.begin && one.end <= step.end);
      const backward = within.find(({ name, cat }) => cat === 'step' && name === 'backward');
      const update = within.find(({ name, cat }) => cat === 'step' && name === 'update');
      if (!backward || !update) return [];
      return [
        {
          computeMs: backward.end - step.begin,
          updateMs: update.end - update.begin,
          gradients: within
            .filter(({ cat }) => cat === 'gradient')
            .toSorted((a, b) => a.end - b.end)
            .map(({ bytes, end }) => ({ bytes, atMs: end - step.begin })),
        },
      ];
    });
}
