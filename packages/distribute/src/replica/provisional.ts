/** Provisional: the flat update, until its own file is here. */
import type { Communicator } from '../communicator/communicator.js';

interface FlatOptions {
  communicator: Communicator;
  segments: { offset: number; length: number; weightDecay: number }[];
  weights: Float32Array;
  slots: Record<string, Float32Array>;
  gradients: Float32Array[];
  optimizer: { kind: string; momentum?: number; nesterov?: boolean };
  lossScale: number;
  [k: string]: unknown;
}
export class FlatReducer {
  constructor(private readonly o: FlatOptions) {}
  markReady(_i: number) {}
  finishWithUpdate({ learningRate }: { learningRate: number }) {
    const { communicator: c, weights, slots, gradients, segments, lossScale, optimizer } = this.o;
    c.barrier();
    if (c.rank === 0) {
      for (const s of segments)
        for (let i = s.offset; i < s.offset + s.length; i++) {
          let g = 0;
          for (const r of gradients) g += r[i]!;
          g = g / gradients.length / lossScale + s.weightDecay * weights[i]!;
          const v = slots.momentum;
          if (v) {
            v[i] = optimizer.momentum! * v[i]! + g;
            weights[i]! -= learningRate * (optimizer.nesterov ? g + optimizer.momentum! * v[i]! : v[i]!);
          } else weights[i]! -= learningRate * g;
        }
    }
    c.barrier();
    return { reduceMs: 0, updateMs: 0 };
  }
}
