/**
 * Gradients of element-wise functions in one pass, in the place of TensorFlow.js' own, which compose them of several kernels,
 * and the gradients of those gradients. On any other backend they do what TensorFlow.js' do.
 */
import {
  engine,
  type GradConfig,
  getBackend,
  getGradient,
  getKernel,
  mul,
  registerGradient,
  sub,
  type Tensor,
  unregisterGradient,
  zerosLike,
} from '@tensorflow/tfjs-core';

/** Registers them in this thread, once. */
export function registerElementwiseGradients(): void {
  // dy where y > 0: ReLU's gradient needs the sign of its result only; TensorFlow.js makes step, cast and product.
  fromResult('Relu', 'ReluGrad', (y) => zerosLike(y));
  // dy·y·(1 − y)
  fromResult('Sigmoid', 'SigmoidGrad', (y) => sub(1, mul(y, 2)));
  // dy·(1 − y²)
  fromResult('Tanh', 'TanhGrad', (y) => mul(y, -2));
}

/**
 * A gradient that is dy times something of the result y, made by kernel `gradient`. `slope` is the derivative of that
 * something: gradients of gradients, such as a penalty on a gradient's length, need it.
 */
function fromResult(kernelName: string, gradient: string, slope: (y: Tensor) => Tensor): void {
  const original = getGradient(kernelName);
  if (!original) return;
  const ours: GradConfig = {
    kernelName,
    outputsToSave: [true],
    gradFunc: (dy, saved) => ({ x: () => run(gradient, dy as Tensor, saved[0] as Tensor) }),
  };
  unregisterGradient(kernelName);
  registerGradient({
    ...ours,
    // TensorFlow.js' version is given the result too; for ReLU it expects the input, of which it uses the same sign.
    gradFunc: (dy, saved, attrs) => (getKernel(gradient, getBackend()) ? ours : original).gradFunc(dy, saved, attrs),
  });
  registerGradient({
    kernelName: gradient,
    inputsToSave: ['dy', 'y'],
    gradFunc: (ddx, saved) => {
      const [dy, y] = saved as [Tensor, Tensor];
      return {
        dy: () => run(gradient, ddx as Tensor, y),
        y: () => mul(mul(ddx as Tensor, dy), slope(y)),
      };
    },
  });
}

function run(name: string, dy: Tensor, y: Tensor): Tensor {
  return engine().runKernel(name, { dy, y }) as Tensor;
}
