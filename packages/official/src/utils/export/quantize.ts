/**
 * Weights in fewer bits, as TensorFlow.js' own converter writes them and every TensorFlow.js reads them: IEEE 754's half precision, or
 * bytes that lie evenly between the smallest and the largest weight. Kernels only: offsets and scales are few, and their errors count.
 */
import type { Quantization } from './export.js';

/** What a weight's entry in weightsManifest says of it, beside name, shape and dtype. */
export interface QuantizationInfo {
  readonly dtype: 'float16' | 'uint8';
  readonly original_dtype: 'float32';
  /** uint8: value = scale · byte + min. */
  readonly scale?: number;
  readonly min?: number;
}

export interface StoredWeight {
  readonly bytes: Uint8Array;
  readonly quantization?: QuantizationInfo;
}

/** A weight's bytes. @param shape one of two dimensions or more is a kernel */
export function storedWeight(values: Float32Array, shape: readonly number[], how: Quantization): StoredWeight {
  if (how === 'none' || shape.length < 2) return { bytes: bytesOf(values) };
  if (how === 'float16') {
    return { bytes: bytesOf(toHalves(values)), quantization: { dtype: 'float16', original_dtype: 'float32' } };
  }
  const { bytes, scale, min } = toBytes(values);
  return { bytes, quantization: { dtype: 'uint8', original_dtype: 'float32', scale, min } };
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

const LEVELS = 255;

/** Zero is one of the levels, so that a weight that is zero stays so; the range reaches to it where all have one sign. */
function toBytes(values: Float32Array): { bytes: Uint8Array; scale: number; min: number } {
  let [low, high] = [0, 0];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low === high) return { bytes: new Uint8Array(values.length), scale: 1, min: 0 };
  const scale = (high - low) / LEVELS;
  const zero = Math.round(-low / scale);
  const min = -zero * scale;
  const bytes = Uint8Array.from(values, (value) => Math.min(LEVELS, Math.max(0, Math.round(value / scale) + zero)));
  return { bytes, scale, min };
}

const LARGEST_HALF = 65_504;
/** Below this halves lie evenly, this far apart: 2⁻²⁴. */
const SMALLEST_NORMAL = 2 ** -14;
const SUBNORMAL_STEP = 2 ** -24;

/** Rounded to the nearest, ties to even; what is larger than the largest becomes that, not infinity: a weight is no overflow. */
export function toHalves(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(1);
  const float = new Float32Array(bits.buffer);
  return Uint16Array.from(values, (value) => {
    const size = Math.min(LARGEST_HALF, Math.abs(value));
    const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
    if (size < SMALLEST_NORMAL) return sign | roundToEven(size / SUBNORMAL_STEP);
    float[0] = size;
    const f32 = bits[0] as number;
    // 13 bits of the fraction go; rounding may carry into the exponent, which is right.
    const kept = f32 >>> 13;
    const rest = f32 & 0x1fff;
    const up = rest > 0x1000 || (rest === 0x1000 && (kept & 1) === 1) ? 1 : 0;
    return sign | Math.min(0x7bff, kept - ((127 - 15) << 10) + up);
  });
}

function roundToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}
