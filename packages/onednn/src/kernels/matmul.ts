/**
 * Matrix multiplication with batches, transposes, bias and activation (BatchMatMul, _FusedMatMul). Transposes are strides,
 * not copies.
 */
import { broadcast_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Arg } from '../ffi/constants.js';
import type { MemoryDescriptor } from '../ffi/dnnl.js';
import type { Primitive, PrimitiveArgument } from '../primitive.js';
import { rowMajorStrides } from '../runtime.js';
import { activationOf, keyOf } from './activation.js';
import { isFloat, kernel } from './kernel.js';
import { floatsOf, plainAddress } from './tools.js';
import { applyInPlace } from './unary.js';

/** Multiplications up to which a loop is done before a primitive has started. */
const SMALL = 2048;
/** oneDNN has twelve dimensions at most. */
const MAX_RANK = 12;

interface MatMulAttrs {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly activation?: string;
  readonly leakyreluAlpha?: number;
}

/** A matrix product's batch: one number where the two operands agree or one has no batch, otherwise the axes that broadcast. */
function batchesOf(a: readonly number[], b: readonly number[]): { left: number[]; right: number[] } {
  const [left, right] = [a.slice(0, -2), b.slice(0, -2)];
  const [sizeA, sizeB] = [util.sizeFromShape(left), util.sizeFromShape(right)];
  if (util.arraysEqual(left, right) || sizeA === 1 || sizeB === 1) return { left: [sizeA], right: [sizeB] };
  const rank = Math.max(left.length, right.length);
  const pad = (axes: number[]) => [...new Array<number>(rank - axes.length).fill(1), ...axes];
  return { left: pad(left), right: pad(right) };
}

/** A tensor [..., rows, columns] as [...batch, rows, columns], rows and columns swapped if transposed. */
function matrices(
  backend: OneDnnBackend,
  batch: readonly number[],
  rows: number,
  columns: number,
  transpose: boolean,
): MemoryDescriptor {
  const dims = transpose ? [...batch, columns, rows] : [...batch, rows, columns];
  // A row or a column lies the same both ways; it is described as what it is, because oneDNN 3.7 errs for a single row whose
  // stride is shorter than the row.
  const isVector = rows === 1 || columns === 1;
  const strides = rowMajorStrides([...batch, rows, columns]);
  const inner = transpose && !isVector ? [1, columns] : [dims.at(-1) as number, 1];
  strides.splice(-2, 2, ...inner);
  return backend.runtime.layout(`matrix ${dims} ${strides}`, () =>
    backend.runtime.dnnl.descriptor(dims, 'f32', { strides }),
  );
}

/** Elements from one batch, one row and one column to the next. */
type Strides = readonly [batch: number, row: number, column: number];

const strides = (batch: number, [row, column]: readonly [number, number]): Strides => [batch, row, column];

interface LoopGeometry {
  readonly batches: number;
  /** Rows, what is summed over, columns. */
  readonly sizes: readonly [number, number, number];
  readonly left: Strides;
  readonly right: Strides;
  readonly isRelu: boolean;
}

function multiplyInLoop(
  a: Float32Array,
  b: Float32Array,
  bias: Float32Array | null,
  y: Float32Array,
  { batches, sizes, left, right, isRelu }: LoopGeometry,
): void {
  const [rows, inner, columns] = sizes;
  const [leftBatch, leftRow, leftStep] = left;
  const [rightBatch, rightStep, rightColumn] = right;
  const biasStep = bias?.length === columns ? 1 : 0;
  let to = 0;
  for (let batch = 0; batch < batches; batch++) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        let at = batch * leftBatch + row * leftRow;
        let from = batch * rightBatch + column * rightColumn;
        let sum = bias ? (bias[column * biasStep] as number) : 0;
        for (let k = 0; k < inner; k++) {
          sum += (a[at] as number) * (b[from] as number);
          at += leftStep;
          from += rightStep;
        }
        y[to++] = isRelu ? Math.max(0, sum) : sum;
      }
    }
  }
}

function multiply(
  backend: OneDnnBackend,
  a: TensorInfo,
  b: TensorInfo,
  attrs: MatMulAttrs,
  bias?: TensorInfo,
  name = 'linear',
): TensorInfo | null {
  if (!isFloat(a, b, bias) || a.shape.length < 2 || b.shape.length < 2) return null;
  const { runtime } = backend;
  const sizes = (shape: readonly number[]) => shape.slice(-2) as [number, number];
  const [rowsA, columnsA] = sizes(a.shape);
  const [rowsB, columnsB] = sizes(b.shape);
  const [rows, inner] = attrs.transposeA ? [columnsA, rowsA] : [rowsA, columnsA];
  const [innerB, columns] = attrs.transposeB ? [columnsB, rowsB] : [rowsB, columnsB];
  // Errors are TensorFlow.js' to word; more axes than oneDNN has are its to compute.
  if (inner !== innerB || a.shape.length > MAX_RANK || b.shape.length > MAX_RANK) return null;
  if (bias && (bias.shape.length !== 1 || (bias.shape[0] !== columns && bias.shape[0] !== 1))) return null;
  const batchShape = broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const batches = batchesOf(a.shape, b.shape);
  const shape = [...batchShape, rows, columns];
  const size = util.sizeFromShape(shape);
  if (size * inner <= SMALL && batches.left.length === 1 && (name === 'linear' || name === 'relu')) {
    const product = backend.allocate(shape);
    const [x, y, output] = floatsOf(backend, a, b, product);
    const loop: LoopGeometry = {
      batches: util.sizeFromShape(batchShape),
      sizes: [rows, inner, columns],
      left: strides(batches.left[0] === 1 ? 0 : rows * inner, attrs.transposeA ? [1, rows] : [inner, 1]),
      right: strides(batches.right[0] === 1 ? 0 : inner * columns, attrs.transposeB ? [1, inner] : [columns, 1]),
      isRelu: name === 'relu',
    };
    const shift = bias ? floatsOf(backend, bias)[0] : null;
    runtime.host(() => multiplyInLoop(x, y, shift, output, loop));
    return product;
  }
  const activation = activationOf(runtime, size, name, attrs.leakyreluAlpha);
  if (!activation) return null;
  const { postOps, apply } = activation;
  const left = matrices(backend, batches.left, rowsA, columnsA, attrs.transposeA);
  const right = matrices(backend, batches.right, rowsB, columnsB, attrs.transposeB);
  const batch = batches.left.map((size, axis) => Math.max(size, batches.right[axis] as number));
  const destination = runtime.rowMajor([...batch, rows, columns]);
  const biasSize = bias?.shape[0] ?? 0;
  const key = `matmul ${left.id} ${right.id} ${biasSize} ${keyOf(postOps)}`;
  const make = (): Primitive => {
    const biasLayout = bias ? runtime.rowMajor([...batch.map(() => 1), 1, biasSize]) : null;
    const descriptor = runtime.dnnl.matmul(left, right, biasLayout, destination, postOps);
    if (!descriptor) throw new Error(`oneDNN offers no matmul of [${left.dims}] and [${right.dims}].`);
    const args: PrimitiveArgument[] = [
      [Arg.src, left],
      [Arg.weights, right],
      [Arg.dst, destination],
    ];
    if (biasLayout) args.push([Arg.bias, biasLayout]);
    return runtime.primitive(descriptor, args, `matmul [${left.dims}] [${right.dims}]`);
  };
  const primitive: Primitive = runtime.compiled(key, () => runtime.product(size * inner, make));
  const product = backend.allocate(shape);
  const addresses = [plainAddress(backend, a), plainAddress(backend, b), backend.storage(product).address];
  if (bias) addresses.push(plainAddress(backend, bias));
  primitive.run(...addresses);
  return apply ? applyInPlace(backend, product, apply) : product;
}

const batchMatMul = kernel<{ a: TensorInfo; b: TensorInfo }, MatMulAttrs>('BatchMatMul', ({ inputs, attrs, backend }) =>
  multiply(backend, inputs.a, inputs.b, attrs),
);

const fusedMatMul = kernel<
  { a: TensorInfo; b: TensorInfo; bias?: TensorInfo; preluActivationWeights?: TensorInfo },
  MatMulAttrs
>('_FusedMatMul', ({ inputs, attrs, backend }) => {
  if (inputs.preluActivationWeights) return null;
  return multiply(backend, inputs.a, inputs.b, attrs, inputs.bias, attrs.activation);
});

export const matmulKernels = [batchMatMul, fusedMatMul];
