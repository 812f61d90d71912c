/**
 * The figures of a training run, for a bar or a line of `@lockstep/distribute/progress`: epoch, step, loss, accuracy, images a second
 * and time left.
 */
import type { Figure, Moment } from '@lockstep/distribute/progress';

/** A moment of training. */
export interface TrainingProgress {
  /** Steps done and in all; infinitely many where nothing ends them. */
  readonly step: number;
  readonly steps: number;
  /** Epochs done (may be fractional) and in all. */
  readonly epoch: number;
  readonly epochs: number;
  readonly loss: number;
  /** Of the batch, 0..1. */
  readonly accuracy: number;
  readonly imagesPerSecond: number;
}

/** What `update` takes. */
export function momentOf(state: TrainingProgress): Moment {
  return { step: state.step, steps: state.steps, figures: (left) => figuresOf(state, left) };
}

/** Where there is little room, how far it is and how long it takes are wanted most, then what was learned. */
export function figuresOf(state: TrainingProgress, left: string): Figure[] {
  const { epoch, epochs, step, steps, loss, accuracy, imagesPerSecond } = state;
  const count = Number.isFinite(steps) ? `${step}/${steps}` : `${step}`;
  return [
    { text: `epoch ${epoch.toFixed(1)}/${epochs}`, wanted: 1, widest: `epoch ${epochs.toFixed(1)}/${epochs}`.length },
    { text: `step ${count}`, wanted: 6, widest: `step ${steps}/${steps}`.length },
    { text: `loss ${loss.toFixed(3)}`, wanted: 5 },
    { text: `accuracy ${(100 * accuracy).toFixed(1)} %`, wanted: 3, widest: 'accuracy 100.0 %'.length },
    { text: `${imagesPerSecond.toFixed(0)} images/s`, wanted: 4, widest: '9999 images/s'.length },
    { text: left, wanted: 2, widest: '1m 30s left'.length },
  ];
}
