/** Element-wise combination of typed arrays in the order given, as plain loops: what the SIMD kernels do not cover. */
import type { Buffer, CommunicatorReduceOp } from './communicator.js';

type Numbers = Float32Array | Float64Array | Int32Array | Uint8Array;

/** target = op over sources. Integers wrap around as their type does; min and max with NaN give NaN. */
export function combine(target: Buffer, sources: readonly Buffer[], op: CommunicatorReduceOp): void {
  if (target instanceof BigInt64Array) combineBigInts(target, sources as BigInt64Array[], op);
  else combineNumbers(target, sources as Numbers[], op);
}

function combineNumbers(target: Numbers, sources: readonly Numbers[], op: CommunicatorReduceOp): void {
  // Rounding between additions is the target type's, hence the detour over one element of it.
  const rounded = target.slice(0, 1);
  for (let i = 0; i < target.length; i++) {
    rounded[0] = sources[0]![i]!;
    for (let source = 1; source < sources.length; source++) {
      const value = sources[source]![i]!;
      const current = rounded[0]!;
      rounded[0] = op === 'sum' ? current + value : op === 'max' ? Math.max(current, value) : Math.min(current, value);
    }
    target[i] = rounded[0]!;
  }
}

function combineBigInts(target: BigInt64Array, sources: readonly BigInt64Array[], op: CommunicatorReduceOp): void {
  for (let i = 0; i < target.length; i++) {
    let result = sources[0]![i]!;
    for (let source = 1; source < sources.length; source++) {
      const value = sources[source]![i]!;
      if (op === 'sum') result += value;
      else if (op === 'max' ? value > result : value < result) result = value;
    }
    target[i] = result;
  }
}
