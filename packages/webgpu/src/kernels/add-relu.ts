/** The end of a residual block, max(a + b, 0) of two tensors of one shape, and its gradient, a kernel each. */
import type { KernelConfig, KernelFunc, TensorInfo } from '@tensorflow/tfjs-core';
import type { GpuBackend } from '../backend.js';
import { runShader } from './program.js';

const kernel = (kernelName: string, inputs: readonly [string, string], value: string): KernelConfig => ({
  kernelName,
  backendName: 'webgpu',
  kernelFunc: (({ inputs: given, backend }) => {
    const [left, right] = inputs.map((name) => given[name] as TensorInfo) as [TensorInfo, TensorInfo];
    const code = `let v = ${value}; setOutputAtIndex(index, v);`;
    const shader = { name: kernelName, inputs, outputShape: left.shape, code };
    return runShader(backend as GpuBackend, shader, [left, right]);
  }) as KernelFunc,
});

export const addReluKernels: readonly KernelConfig[] = [
  // A number that is none stays none.
  kernel('AddRelu', ['a', 'b'], 'select(a[index] + b[index], 0.0, a[index] + b[index] < 0.0)'),
  kernel('ReluGrad', ['dy', 'y'], 'select(0.0, dy[index], y[index] > 0.0)'),
];
