/**
 * Matrix multiplication with batches, transposes, bias and activation (BatchMatMul, _FusedMatMul). Transposes are strides,
 * not copies.
 */
import { broadcast_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Arg } from '../ffi/constants.js';
import type { MemoryDescriptor, PostOp } from '../ffi/dnnl.js';
import type { Primitive, PrimitiveArgument } from '../primitive.js';
import { rowMajorStrides } from '../runtime.js';
import { activationPostOps, plainAddress } from './convolution.js';
import { isFloat, kernel } from './kernel.js';

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

function multiply(
  backend: OneDnnBackend,
  a: TensorInfo,
  b: TensorInfo,
  attrs: MatMulAttrs,
  bias?: TensorInfo,
  postOps: readonly PostOp[] = [],
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
  const left = matrices(backend, batches.left, rowsA, columnsA, attrs.transposeA);
  const right = matrices(backend, batches.right, rowsB, columnsB, attrs.transposeB);
  const shape = [...batchShape, rows, columns];
  const batch = batches.left.map((size, axis) => Math.max(size, batches.right[axis] as number));
  const destination = runtime.rowMajor([...batch, rows, columns]);
  const biasSize = bias?.shape[0] ?? 0;
  const key = `matmul ${left.id} ${right.id} ${biasSize} ${attrs.activation ?? ''} ${attrs.leakyreluAlpha ?? ''}`;
  const primitive: Primitive = runtime.compiled(key, () => {
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
  });
  const product = backend.allocate(shape);
  const addresses = [plainAddress(backend, a), plainAddress(backend, b), backend.storage(product).address];
  if (bias) addresses.push(plainAddress(backend, bias));
  primitive.run(...addresses);
  return product;
}

const batchMatMul = kernel<{ a: TensorInfo; b: TensorInfo }, MatMulAttrs>('BatchMatMul', ({ inputs, attrs, backend }) =>
  multiply(backend, inputs.a, inputs.b, attrs),
);

const fusedMatMul = kernel<
  { a: TensorInfo; b: TensorInfo; bias?: TensorInfo; preluActivationWeights?: TensorInfo },
  MatMulAttrs
>('_FusedMatMul', ({ inputs, attrs, backend }) => {
  const postOps = activationPostOps(attrs.activation, attrs.leakyreluAlpha);
  if (!postOps || inputs.preluActivationWeights) return null;
  return multiply(backend, inputs.a, inputs.b, attrs, inputs.bias, postOps);
});

export const matmulKernels = [batchMatMul, fusedMatMul];
