/**
 * Loops over flat typed arrays, compiled for one operation each.
 *
 * V8 inlines a function into a loop only where the loop has seen that one function. A loop shared by all operations has seen
 * many, and then an addition costs five times as much. So each operation gets a copy of the loop, made from its source; where
 * the process forbids making code from strings, the shared loop runs, slower and with the same results.
 *
 * Rule for operations given to this file: plain arrow functions that refer to nothing but their arguments, `Math` and `Number`.
 */

/** What tensors keep their values in, and what `cpu` kernels leave there now and then. */
export type Values = Float32Array | Int32Array | Uint8Array | number[];
export type TypedValues = Float32Array | Int32Array | Uint8Array;

export type UnaryOperation = (x: number, p: number, q: number) => number;
export type BinaryOperation = (a: number, b: number) => number;

/** y[i] = operation(x[i], p, q) for every i of y. */
export type UnaryLoop = (x: Values, y: TypedValues, p: number, q: number) => void;

/** Dimensions of a broadcast with neighbours merged, and each operand's stride along them: 0 where it repeats. */
export interface BroadcastPlan {
  readonly dims: readonly number[];
  readonly aStrides: readonly number[];
  readonly bStrides: readonly number[];
}

/** y = operation(a, b) with broadcasting; without a plan all three have the same shape. */
export type BinaryLoop = (a: Values, b: Values, y: TypedValues, plan: BroadcastPlan | null) => void;

type FlatLoop = (a: Values, b: Values, y: TypedValues) => void;
type BroadcastLoop = (a: Values, b: Values, y: TypedValues, plan: BroadcastPlan) => void;

// V8 unrolls no loops: four elements a turn take less than half of the time.
function unaryTemplate(operation: UnaryOperation): UnaryLoop {
  return (x, y, p, q) => {
    const n = y.length;
    const fours = n - (n % 4);
    for (let i = 0; i < fours; i += 4) {
      y[i] = operation(x[i] as number, p, q);
      y[i + 1] = operation(x[i + 1] as number, p, q);
      y[i + 2] = operation(x[i + 2] as number, p, q);
      y[i + 3] = operation(x[i + 3] as number, p, q);
    }
    for (let i = fours; i < n; i++) y[i] = operation(x[i] as number, p, q);
  };
}

/** Apart from the loop with broadcasting because V8 compiles a short function sooner. */
function flatTemplate(operation: BinaryOperation): FlatLoop {
  return (a, b, y) => {
    const n = y.length;
    const fours = n - (n % 4);
    for (let i = 0; i < fours; i += 4) {
      y[i] = operation(a[i] as number, b[i] as number);
      y[i + 1] = operation(a[i + 1] as number, b[i + 1] as number);
      y[i + 2] = operation(a[i + 2] as number, b[i + 2] as number);
      y[i + 3] = operation(a[i + 3] as number, b[i + 3] as number);
    }
    for (let i = fours; i < n; i++) y[i] = operation(a[i] as number, b[i] as number);
  };
}

function broadcastTemplate(operation: BinaryOperation): BroadcastLoop {
  return (a, b, y, { dims, aStrides, bStrides }) => {
    const last = dims.length - 1;
    const n = dims[last] as number;
    const aStep = aStrides[last] as number;
    const bStep = bStrides[last] as number;
    const counters = new Int32Array(last);
    let ao = 0;
    let bo = 0;
    for (let yo = 0; yo < y.length; yo += n) {
      if (aStep === bStep) {
        for (let i = 0; i < n; i++) y[yo + i] = operation(a[ao + i] as number, b[bo + i] as number);
      } else if (bStep === 0) {
        const value = b[bo] as number;
        for (let i = 0; i < n; i++) y[yo + i] = operation(a[ao + i] as number, value);
      } else {
        const value = a[ao] as number;
        for (let i = 0; i < n; i++) y[yo + i] = operation(value, b[bo + i] as number);
      }
      for (let d = last - 1; d >= 0; d--) {
        ao += aStrides[d] as number;
        bo += bStrides[d] as number;
        if (++(counters[d] as number) < (dims[d] as number)) break;
        ao -= (aStrides[d] as number) * (dims[d] as number);
        bo -= (bStrides[d] as number) * (dims[d] as number);
        counters[d] = 0;
      }
    }
  };
}

/** A copy of `template` that is the operation's own; the template itself where strings may not become code. */
function specialize<O, L>(template: (operation: O) => L, operation: O): L {
  try {
    return new Function(`return (${template})(${operation});`)() as L;
  } catch {
    return template(operation);
  }
}

/** One loop for each kind of array, because a loop that has seen several kinds is slower too. The key names the kinds. */
export function specializePerKind<O, L>(template: (operation: O) => L, operation: O): (key: string) => L {
  const loops = new Map<string, L>();
  return (key) => {
    let loop = loops.get(key);
    if (loop === undefined) {
      loop = specialize(template, operation);
      loops.set(key, loop);
    }
    return loop;
  };
}

const kindOf = (values: Values): string => values.constructor.name;
/** Nearly all are f32; finding a name takes as long as a loop over a hundred elements. */
const isF32 = (values: Values): boolean => values instanceof Float32Array;

export function unaryLoop(operation: UnaryOperation): UnaryLoop {
  const loops = specializePerKind(unaryTemplate, operation);
  const floats = loops('f32');
  return (x, y, p, q) => (isF32(x) && isF32(y) ? floats : loops(kindOf(x) + kindOf(y)))(x, y, p, q);
}

export function binaryLoop(operation: BinaryOperation): BinaryLoop {
  const flat = specializePerKind(flatTemplate, operation);
  const broadcast = specializePerKind(broadcastTemplate, operation);
  const [flatFloats, broadcastFloats] = [flat('f32'), broadcast('f32')];
  return (a, b, y, plan) => {
    const areFloats = isF32(a) && isF32(b) && isF32(y);
    if (plan === null) (areFloats ? flatFloats : flat(kindOf(a) + kindOf(b) + kindOf(y)))(a, b, y);
    else (areFloats ? broadcastFloats : broadcast(kindOf(a) + kindOf(b) + kindOf(y)))(a, b, y, plan);
  };
}

/** How `a` and `b` walk through their common shape. Shapes must be broadcastable. */
export function broadcastPlan(
  aShape: readonly number[],
  bShape: readonly number[],
  outShape: readonly number[],
): BroadcastPlan {
  const dims: number[] = [];
  const aStrides: number[] = [];
  const bStrides: number[] = [];
  const rank = outShape.length;
  let aStride = 1;
  let bStride = 1;
  for (let axis = rank - 1; axis >= 0; axis--) {
    const size = outShape[axis] as number;
    const aSize = aShape[axis - rank + aShape.length] ?? 1;
    const bSize = bShape[axis - rank + bShape.length] ?? 1;
    if (size === 1) continue;
    const aStep = aSize === 1 ? 0 : aStride;
    const bStep = bSize === 1 ? 0 : bStride;
    const outer = dims.length - 1;
    const merges =
      outer >= 0 &&
      aStep === (aStrides[outer] as number) * (dims[outer] as number) &&
      bStep === (bStrides[outer] as number) * (dims[outer] as number);
    if (merges) dims[outer] = (dims[outer] as number) * size;
    else {
      dims.push(size);
      aStrides.push(aStep);
      bStrides.push(bStep);
    }
    aStride *= aSize;
    bStride *= bSize;
  }
  if (dims.length === 0) return { dims: [1], aStrides: [1], bStrides: [1] };
  return { dims: dims.reverse(), aStrides: aStrides.reverse(), bStrides: bStrides.reverse() };
}
