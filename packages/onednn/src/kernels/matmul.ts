/**
 * Matrix multiplication with batches, transposes, bias and activation (BatchMatMul, _FusedMatMul). Transposes are strides,
 * not copies.
 */
import { broadcast_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Arg } from '../ffi/constants.js';
import type { MemoryDescriptor, PostOp } from '../ffi/dnnl.js';
import type { Primitive, PrimitiveArgument } from '../primitive.js';
import { activationPostOps, plainAddress } from './convolution.js';
import { isFloat, kernel } from './kernel.js';

interface MatMulAttrs {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly activation?: string;
  readonly leakyreluAlpha?: number;
}

/** `shape` [..., rows, columns] as [batch, rows, columns], rows and columns swapped if transposed. */
function matrices(backend: OneDnnBackend, shape: readonly number[], transpose: boolean): MemoryDescriptor {
  const rank = shape.length;
  const [rows, columns] = [shape[rank - 2] as number, shape[rank - 1] as number];
  const batch = util.sizeFromShape(shape.slice(0, -2));
  const dims = transpose ? [batch, columns, rows] : [batch, rows, columns];
  // A row or a column lies the same both ways; it is described as what it is, because oneDNN 3.7 errs for a single row whose
  // stride is shorter than the row.
  const isVector = rows === 1 || columns === 1;
  const strides = transpose && !isVector ? [rows * columns, 1, columns] : [rows * columns, dims[2] as number, 1];
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
  const left = matrices(backend, a.shape, attrs.transposeA);
  const right = matrices(backend, b.shape, attrs.transposeB);
  const [batchA, rows, inner] = left.dims as [number, number, number];
  const [batchB, innerB, columns] = right.dims as [number, number, number];
  if (inner !== innerB || (batchA !== batchB && batchA !== 1 && batchB !== 1)) return null;
  if (bias && (bias.shape.length !== 1 || (bias.shape[0] !== columns && bias.shape[0] !== 1))) return null;
  const batchShape = broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const shape = [...batchShape, rows, columns];
  const destination = runtime.rowMajor([Math.max(batchA, batchB), rows, columns]);
  const biasSize = bias?.shape[0] ?? 0;
  const key = `matmul ${left.id} ${right.id} ${biasSize} ${attrs.activation ?? ''} ${attrs.leakyreluAlpha ?? ''}`;
  const primitive: Primitive = runtime.compiled(key, () => {
    const biasLayout = bias ? runtime.rowMajor([1, 1, biasSize]) : null;
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
