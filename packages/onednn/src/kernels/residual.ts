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
import { elementwiseView, finiteness } from './elementwise.js';
import { isFloat, kernel } from './kernel.js';
import { floatsOf, SMALL } from './tools.js';
import { applyInPlace } from './unary.js';

function addPlan(runtime: Runtime, layout: MemoryDescriptor, isRelu: boolean): Primitive {
  return runtime.compiled(`add ${isRelu ? 'relu' : ''} ${layout.id}`, () => {
    const postOps = isRelu ? [{ kind: 'eltwise', alg: Alg.relu, alpha: 0, beta: 0 } as const] : [];
    const descriptor = runtime.dnnl.binary(Alg.add, layout, layout, layout, postOps);
    if (!descriptor) throw new Error(`oneDNN offers no addition of [${layout.dims}].`);
    return runtime.primitive(
      descriptor,
      [
        [Arg.src, layout],
        [Arg.src1, layout],
        [Arg.dst, layout],
      ],
      `${isRelu ? 'add_relu' : 'add'} [${layout.dims}]`,
    );
  });
}

/** a + b, of one shape; with `isRelu` max(a + b, 0), where NaN becomes 0. */
export function addSame(backend: OneDnnBackend, a: TensorInfo, b: TensorInfo, isRelu: boolean): TensorInfo {
  // The layout of whichever is native decides, so that only one of the two may need a conversion.
  const first = backend.storage(a).layout || !backend.storage(b).layout ? a : b;
  const second = first === a ? b : a;
  const { plain, current } = elementwiseView(backend, first);
  const { address: left } = backend.storage(first);
  const plan = addPlan(backend.runtime, current, isRelu);
  return backend.withLayout(second, plain, current, (right) => {
    const sum = backend.allocateOver([first, second], a.shape, { plain, current });
    plan.run(left, right, backend.storage(sum).address);
    return sum;
  });
}

/**
 * a, b of one shape → max(a + b, 0). oneDNN's ReLU makes 0 of NaN, so both are done in one only where both operands are known
 * to be finite; then a sum that overflows is infinite, and no NaN.
 */
const addRelu = kernel<{ a: TensorInfo; b: TensorInfo }, object>('AddRelu', ({ inputs: { a, b }, backend }) => {
  if (!isFloat(a, b) || !util.arraysEqual(a.shape, b.shape)) return null;
  const [left, right] = [backend.storage(a).finite, backend.storage(b).finite];
  const apart = (x: TensorInfo, y: TensorInfo) => applyInPlace(backend, addSame(backend, x, y, false), 'Relu');
  if (!left || !right) return apart(a, b);
  const verdict = backend.runtime.judge(() => left.holds && right.holds);
  const [sum] = backend.either(
    verdict,
    [a, b],
    () => [addSame(backend, a, b, true)],
    (x, y) => [apart(x, y)],
  );
  backend.storage(sum).finite = verdict;
  return sum;
});

/** dy·step(y), element by element: what is not finite in dy stays so where y is 0. */
function stepInLoop(dy: Float32Array, y: Float32Array, dx: Float32Array): void {
  for (let i = 0; i < dx.length; i++) {
    const value = y[i] as number;
    dx[i] = (dy[i] as number) * (value > 0 ? 1 : Number.isNaN(value) ? value : 0);
  }
}

/** dy, y (ReLU's output) of one shape → dy where y > 0, else 0, and NaN where y is NaN, of which oneDNN's gradient knows nothing. */
export function reluGradient(backend: OneDnnBackend, dy: TensorInfo, y: TensorInfo): TensorInfo {
  const { runtime } = backend;
  const storage = backend.storage(y);
  const size = util.sizeFromShape(y.shape);
  const inLoop = (up: TensorInfo, result: TensorInfo): TensorInfo => {
    const dx = backend.allocate(result.shape);
    const [gradient, values, output] = floatsOf(backend, up, result, dx);
    runtime.host(() => stepInLoop(gradient, values, output));
    return dx;
  };
  if (storage.layout === null && size < SMALL) return inLoop(dy, y);
  const [dx] = backend.either(
    finiteness(backend, y),
    [dy, y],
    () => [reluGradientOfFinite(backend, dy, y)],
    (up, result) => [inLoop(up, result)],
  );
  return dx;
}

function reluGradientOfFinite(backend: OneDnnBackend, dy: TensorInfo, y: TensorInfo): TensorInfo {
  const { runtime } = backend;
  const { plain, current } = elementwiseView(backend, y);
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
  return backend.withLayout(dy, plain, current, (gradient) => {
    const dx = backend.allocateOver([dy], y.shape, { plain, current });
    primitive.run(address, gradient, backend.storage(dx).address);
    return dx;
  });
}

const reluGrad = kernel<{ dy: TensorInfo; y: TensorInfo }, object>('ReluGrad', ({ inputs: { dy, y }, backend }) =>
  isFloat(dy, y) ? reluGradient(backend, dy, y) : null,
);

export const residualKernels = [addRelu, reluGrad];
