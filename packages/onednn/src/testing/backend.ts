/**
 * Test support: the same computation on 'onednn' and on TensorFlow.js' own `cpu` kernels, compared. Not part of the package.
 */
import '@tensorflow/tfjs-backend-cpu';
import assert from 'node:assert/strict';
import { engine, type NamedAttrMap, setBackend, type Tensor, tensor, tidy } from '@tensorflow/tfjs-core';
import { register } from '../register.js';

register();

export interface Sample {
  readonly shape: number[];
  readonly values: Float32Array | Int32Array;
}

/** Deterministic values in about (−1, 1) from a seed (xorshift32): fast-check shrinks the seed, not a million floats. */
export function sample(shape: number[], seed: number): Sample {
  let state = (seed | 0) ^ 0x9e3779b9 || 1;
  const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state | 0) / 2 ** 31;
  });
  return { shape, values };
}

export function toTensor({ shape, values }: Sample): Tensor {
  return tensor(values, shape, values instanceof Int32Array ? 'int32' : 'float32');
}

/** Runs `compute` on a backend and returns the values and shapes of what it made. */
export async function runOn(backend: 'cpu' | 'onednn', compute: () => Tensor[]): Promise<Sample[]> {
  await setBackend(backend);
  const results = tidy(() =>
    compute().map((result) => ({ shape: result.shape, values: (result.dataSync() as Float32Array).slice() })),
  );
  return results as unknown as Sample[];
}

/** Runs one kernel by name. */
export function run(name: string, inputs: Record<string, Tensor>, attrs: Record<string, unknown> = {}): Tensor[] {
  const result = engine().runKernel(name, inputs, attrs as NamedAttrMap) as Tensor | Tensor[];
  return Array.isArray(result) ? result : [result];
}

/** Asserts that all elements agree to `tolerance` relative to the largest magnitude (at least 1). */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  what = '',
): void {
  assert.equal(actual.length, expected.length, `${what}: number of elements`);
  let scale = 1;
  for (let i = 0; i < expected.length; i++) {
    const magnitude = Math.abs(expected[i] as number);
    if (Number.isFinite(magnitude)) scale = Math.max(scale, magnitude);
  }
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i] as number, expected[i] as number];
    const same = Number.isNaN(e)
      ? Number.isNaN(a)
      : Number.isFinite(e)
        ? Math.abs(a - e) <= tolerance * scale
        : a === e;
    if (!same) assert.fail(`${what}: element ${i} is ${a}, expected ${e} (tolerance ${tolerance} × ${scale})`);
  }
}

/** Asserts that 'onednn' computes what `cpu` computes. */
export async function assertSameAsCpu(compute: () => Tensor[], tolerance = 1e-5, what = ''): Promise<void> {
  const expected = await runOn('cpu', compute);
  const actual = await runOn('onednn', compute);
  assert.deepEqual(
    actual.map((r) => r.shape),
    expected.map((r) => r.shape),
    `${what}: shapes`,
  );
  actual.forEach((result, i) => {
    assertClose(result.values, (expected[i] as Sample).values, tolerance, `${what} output ${i}`);
  });
}

/** Binary kernels that take any numbers, in f32 and int32. */
export const ARITHMETIC: readonly string[] = [
  ...['Add', 'Sub', 'Multiply', 'Maximum', 'Minimum', 'SquaredDifference'],
  ...['Equal', 'NotEqual', 'Less', 'LessEqual', 'Greater', 'GreaterEqual'],
];
