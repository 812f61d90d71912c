/**
 * The convolution bound of a training step: how long the step's convolution primitives take when they run bare, on buffers of
 * their own, with nothing in between. What a step takes longer is everything else: batch norm, updates, this program.
 */
import type { PooledBuffer } from '../memory/pool.js';
import type { Runnable } from '../primitive.js';
import type { Runtime } from '../runtime.js';

export interface ConvolutionBound {
  /** Sum over the step's convolutions of each one's bare time, milliseconds. */
  readonly milliseconds: number;
  /** Convolutions of the step, forward and backward. */
  readonly count: number;
}

/** Small normal numbers: NaN and subnormal garbage could slow a kernel down. */
const FILL = { f32: 0x3c23d70a, bf16: 0x3c233c23, f16: 0x211f211f, s32: 0x3c23d70a, u8: 0 } as const;

/**
 * Runs `step` once to learn its convolutions, then each of them `repetitions` times; the median counts.
 * @param step one training step in this thread, on the backend of this runtime; a promise is waited for.
 */
export async function convolutionBound(
  runtime: Runtime,
  step: () => unknown,
  repetitions = 5,
): Promise<ConvolutionBound> {
  const uses = new Map<Runnable, number>();
  runtime.observer = (primitive) => {
    if (primitive.label.startsWith('convolution')) uses.set(primitive, (uses.get(primitive) ?? 0) + 1);
  };
  try {
    await step();
  } finally {
    runtime.observer = null;
  }
  let milliseconds = 0;
  let count = 0;
  for (const [primitive, times] of uses) {
    milliseconds += times * bareTime(runtime, primitive, repetitions);
    count += times;
  }
  return { milliseconds, count };
}

function bareTime(runtime: Runtime, primitive: Runnable, repetitions: number): number {
  const buffers: PooledBuffer[] = primitive.layouts.map((layout) => {
    const buffer = runtime.pool.acquire(layout.byteLength);
    new Uint32Array(buffer.memory, buffer.byteOffset, buffer.byteLength >> 2).fill(FILL[layout.dataType]);
    return buffer;
  });
  try {
    const addresses = buffers.map(({ address }) => address);
    for (let i = 0; i < 2; i++) primitive.run(...addresses);
    const samples = Array.from({ length: repetitions }, () => {
      const start = performance.now();
      primitive.run(...addresses);
      return performance.now() - start;
    });
    return samples.sort((a, b) => a - b)[repetitions >> 1] as number;
  } finally {
    for (const buffer of buffers) runtime.pool.release(buffer);
  }
}
