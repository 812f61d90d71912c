/**
 * The elementwise operations of a residual network: Add, AddRelu (add with ReLU in one pass), Relu, ReluGrad. They keep the
 * layout of what they are given, so that a chain of blocked layers stays blocked.
 */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Alg, Arg, Prop } from '../ffi/constants.js';
import type { MemoryDescriptor } from '../ffi/dnnl.js';
import type { Primitive } from '../primitive.js';
import type { Runtime } from '../runtime.js';
import { isFloat, kernel } from './kernel.js';

/** Below this many elements `cpu`'s loop is done before a primitive has started. */
export const SMALL = 2048;

/** One description for all: the native layout if there is one, else the elements in a row. */
export function elementwiseView(
  backend: OneDnnBackend,
  tensor: TensorInfo,
): { plain: MemoryDescriptor; current: MemoryDescriptor } {
  const { layout } = backend.storage(tensor);
  if (layout && matchesShape(layout.plain, tensor.shape)) return layout;
  if (layout) backend.storage(tensor).makePlain();
  const plain = backend.runtime.rowMajor([util.sizeFromShape(tensor.shape)]);
  return { plain, current: plain };
}

/** A native layout describes dimensions in oneDNN's order; a reshaped tensor no longer has them. */
function matchesShape(plain: MemoryDescriptor, shape: readonly number[]): boolean {
  const { dims } = plain;
  const last = shape.length - 1;
  return (
    dims.length === shape.length &&
    dims[0] === shape[0] &&
    dims[1] === shape[last] &&
    dims.slice(2).every((size, axis) => size === shape[axis + 1])
  );
}

function binaryPlan(runtime: Runtime, layout: MemoryDescriptor, relu: boolean): Primitive {
  return runtime.compiled(`add ${layout.id} ${relu}`, () => {
    const postOps = relu ? [{ kind: 'eltwise', alg: Alg.relu, alpha: 0, beta: 0 } as const] : [];
    const descriptor = runtime.dnnl.binary(Alg.add, layout, layout, layout, postOps);
    if (!descriptor) throw new Error(`oneDNN offers no addition of [${layout.dims}].`);
    return runtime.primitive(
      descriptor,
      [
        [Arg.src, layout],
        [Arg.src1, layout],
        [Arg.dst, layout],
      ],
      `${relu ? 'add_relu' : 'add'} [${layout.dims}]`,
    );
  });
}

function addSame(backend: OneDnnBackend, a: TensorInfo, b: TensorInfo, relu: boolean): TensorInfo {
  // The layout of whichever is native decides, so that only one of the two may need a conversion.
  const first = backend.storage(a).layout || !backend.storage(b).layout ? a : b;
  const second = first === a ? b : a;
  const { plain, current } = elementwiseView(backend, first);
  const sum = backend.allocate(a.shape, 'float32', { plain, current });
  const { address: left } = backend.storage(first);
  backend.withLayout(second, plain, current, (right) =>
    binaryPlan(backend.runtime, current, relu).run(left, right, backend.storage(sum).address),
  );
  return sum;
}

const add = kernel<{ a: TensorInfo; b: TensorInfo }, object>('Add', ({ inputs: { a, b }, backend }) => {
  if (!isFloat(a, b) || !util.arraysEqual(a.shape, b.shape) || util.sizeFromShape(a.shape) < SMALL) return null;
  return addSame(backend, a, b, false);
});

/** a, b of one shape → max(a + b, 0). */
const addRelu = kernel<{ a: TensorInfo; b: TensorInfo }, object>('AddRelu', ({ inputs: { a, b }, backend }) => {
  if (!isFloat(a, b) || !util.arraysEqual(a.shape, b.shape)) return null;
  return addSame(backend, a, b, true);
});

const relu = kernel<{ x: TensorInfo }, object>('Relu', ({ inputs: { x }, backend }) => {
  if (!isFloat(x) || util.sizeFromShape(x.shape) < SMALL) return null;
  const { runtime } = backend;
  const { plain, current } = elementwiseView(backend, x);
  const y = backend.allocate(x.shape, 'float32', { plain, current });
  runtime
    .compiled(`relu ${current.id}`, () => {
      const descriptor = runtime.dnnl.eltwiseForward(Prop.forwardTraining, Alg.relu, current, 0, 0);
      if (!descriptor) throw new Error(`oneDNN offers no ReLU of [${current.dims}].`);
      return runtime.primitive(
        descriptor,
        [
          [Arg.src, current],
          [Arg.dst, current],
        ],
        `relu [${current.dims}]`,
      );
    })
    .run(backend.storage(x).address, backend.storage(y).address);
  return y;
});

/** dy, y (ReLU's output) of one shape → dy where y > 0, else 0. */
const reluGrad = kernel<{ dy: TensorInfo; y: TensorInfo }, object>('ReluGrad', ({ inputs: { dy, y }, backend }) => {
  if (!isFloat(dy, y)) return null;
  const { runtime } = backend;
  const { plain, current } = elementwiseView(backend, y);
  const dx = backend.allocate(y.shape, 'float32', { plain, current });
  const primitive = runtime.compiled(`relu grad ${current.id}`, () => {
    const hint = runtime.dnnl.eltwiseForward(Prop.forwardTraining, Alg.reluUseDst, current, 0, 0);
    const descriptor = hint && runtime.dnnl.eltwiseBackward(Alg.reluUseDst, current, current, 0, 0, hint);
    hint?.destroy();
    if (!descriptor) throw new Error(`oneDNN offers no ReLU gradient of [${current.dims}].`);
    return runtime.primitive(
      descriptor,
      [
        [Arg.dst, current],
        [Arg.diffDst, current],
        [Arg.diffSrc, current],
      ],
      `relu_grad [${current.dims}]`,
    );
  });
  const { address } = backend.storage(y);
  backend.withLayout(dy, plain, current, (gradient) => primitive.run(address, gradient, backend.storage(dx).address));
  return dx;
});

export const residualKernels = [add, addRelu, relu, reluGrad];
