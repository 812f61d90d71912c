/**
 * The fused elementwise operations of a residual network: AddRelu (add with ReLU in one pass) and ReluGrad. They keep the
 * layout of what they are given, so that a chain of blocked layers stays blocked.
 */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Alg, Arg, Prop } from '../ffi/constants.js';
import type { MemoryDescriptor } from '../ffi/dnnl.js';
import type { Primitive } from '../primitive.js';
import type { Runtime } from '../runtime.js';
import { elementwiseView } from './elementwise.js';
import { isFloat, kernel } from './kernel.js';

function addReluPlan(runtime: Runtime, layout: MemoryDescriptor): Primitive {
  return runtime.compiled(`add relu ${layout.id}`, () => {
    const postOps = [{ kind: 'eltwise', alg: Alg.relu, alpha: 0, beta: 0 } as const];
    const descriptor = runtime.dnnl.binary(Alg.add, layout, layout, layout, postOps);
    if (!descriptor) throw new Error(`oneDNN offers no addition of [${layout.dims}].`);
    return runtime.primitive(
      descriptor,
      [
        [Arg.src, layout],
        [Arg.src1, layout],
        [Arg.dst, layout],
      ],
      `add_relu [${layout.dims}]`,
    );
  });
}

function addSame(backend: OneDnnBackend, a: TensorInfo, b: TensorInfo): TensorInfo {
  // The layout of whichever is native decides, so that only one of the two may need a conversion.
  const first = backend.storage(a).layout || !backend.storage(b).layout ? a : b;
  const second = first === a ? b : a;
  const { plain, current } = elementwiseView(backend, first);
  const sum = backend.allocate(a.shape, 'float32', { plain, current });
  const { address: left } = backend.storage(first);
  backend.withLayout(second, plain, current, (right) =>
    addReluPlan(backend.runtime, current).run(left, right, backend.storage(sum).address),
  );
  return sum;
}

/** a, b of one shape → max(a + b, 0). */
const addRelu = kernel<{ a: TensorInfo; b: TensorInfo }, object>('AddRelu', ({ inputs: { a, b }, backend }) => {
  if (!isFloat(a, b) || !util.arraysEqual(a.shape, b.shape)) return null;
  return addSame(backend, a, b);
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

export const residualKernels = [addRelu, reluGrad];
