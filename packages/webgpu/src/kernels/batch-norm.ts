/**
 * Batch normalization in training, with its ReLU, and its gradient: five kernels forward and six back, where TensorFlow.js composes the
 * gradient of about twenty over the whole activation. Names and meaning are TensorFlow's FusedBatchNormV3 and FusedBatchNormGradV3.
 */
import type { KernelConfig, KernelFunc, TensorInfo } from '@tensorflow/tfjs-core';
import type { GpuBackend } from '../backend.js';
import { columnSum } from './column-sum.js';
import { runShader } from './program.js';

interface Attributes {
  readonly epsilon: number;
  readonly activation: 'relu' | 'linear';
}

/** Statistics are over all axes but the last. */
function sizeOf({ shape }: TensorInfo): { rows: number; columns: number } {
  const columns = shape.at(-1) as number;
  return { rows: shape.reduce((product, size) => product * size, 1) / columns, columns };
}

/** x [n, h, w, c], scale and offset [c] → y, and the batch's mean and biased variance, [c]. */
function forward(backend: GpuBackend, inputs: Record<string, TensorInfo>, { epsilon, activation }: Attributes) {
  const { x, scale, offset } = inputs as { x: TensorInfo; scale: TensorInfo; offset: TensorInfo };
  const size = sizeOf(x);
  const factor = 1 / size.rows;
  const mean = columnSum(backend, { name: 'x', inputs: { x }, term: 'x[i]', ...size, factor });
  const term = '(x[i] - mean[c]) * (x[i] - mean[c])';
  const variance = columnSum(backend, { name: 'squared deviation', inputs: { x, mean }, term, ...size, factor });
  const shader = {
    name: `batch norm ${activation}`,
    inputs: ['x', 'mean', 'variance', 'scale', 'offset'],
    numbers: { columns: size.columns, epsilon: { f32: epsilon } },
    outputShape: x.shape,
    // Of a number that is none neither comparison holds, so it stays none.
    code: `
      let c = index % uniforms.columns;
      let y = (x[index] - mean[c]) * (inverseSqrt(variance[c] + uniforms.epsilon) * scale[c]) + offset[c];
      setOutputAtIndex(index, ${activation === 'relu' ? 'select(y, 0.0, y < 0.0)' : 'y'});`,
  };
  return [runShader(backend, shader, [x, mean, variance, scale, offset]), mean, variance];
}

/** dy, x, y [n, h, w, c], scale, mean and variance [c] → dx, dscale, doffset. */
function backward(backend: GpuBackend, inputs: Record<string, TensorInfo>, { epsilon, activation }: Attributes) {
  const { dy, x, y, scale, mean, variance } = inputs as Record<
    'dy' | 'x' | 'y' | 'scale' | 'mean' | 'variance',
    TensorInfo
  >;
  const size = sizeOf(x);
  const isRelu = activation === 'relu';
  const gradient = (i: string) => (isRelu ? `select(0.0, dy[${i}], y[${i}] > 0.0)` : `dy[${i}]`);
  const masked: Record<string, TensorInfo> = isRelu ? { dy, y } : { dy };
  const name = `batch norm gradient ${activation}`;
  const doffset = columnSum(backend, { name: `${name} offset`, inputs: masked, term: gradient('i'), ...size });
  const dscale = columnSum(backend, {
    ...{ name: `${name} scale`, inputs: { ...masked, x, mean, variance }, epsilon },
    term: `${gradient('i')} * (x[i] - mean[c]) * inverseSqrt(variance[c] + uniforms.epsilon)`,
    ...size,
  });
  // Rows: scale / σ, dscale / (σ rows), doffset / rows. A kernel may see eight buffers.
  const coefficients = runShader(
    backend,
    {
      name: 'batch norm coefficients',
      inputs: ['variance', 'scale', 'dscale', 'doffset'],
      numbers: { columns: size.columns, epsilon: { f32: epsilon }, share: { f32: 1 / size.rows } },
      outputShape: [3, size.columns],
      code: `
        let c = index % uniforms.columns;
        let inverse = inverseSqrt(variance[c] + uniforms.epsilon);
        let columnOf = array<f32, 3>(inverse * scale[c], inverse * dscale[c] * uniforms.share, doffset[c] * uniforms.share);
        setOutputAtIndex(index, columnOf[index / uniforms.columns]);`,
    },
    [variance, scale, dscale, doffset],
  );
  const all: Record<string, TensorInfo> = { ...masked, x, mean, coefficients };
  const shader = {
    name,
    inputs: Object.keys(all),
    numbers: { columns: size.columns },
    outputShape: x.shape,
    code: `
      let c = index % uniforms.columns;
      let sharedPart = coefficients[2 * uniforms.columns + c] + (x[index] - mean[c]) * coefficients[uniforms.columns + c];
      setOutputAtIndex(index, coefficients[c] * (${gradient('index')} - sharedPart));`,
  };
  const dx = runShader(backend, shader, Object.values(all));
  backend.disposeData(coefficients.dataId);
  return [dx, dscale, doffset];
}

type Run = (
  backend: GpuBackend,
  inputs: Record<string, TensorInfo>,
  attributes: Attributes,
) => (TensorInfo | undefined)[];

const kernel = (kernelName: string, run: Run): KernelConfig => ({
  kernelName,
  backendName: 'webgpu',
  kernelFunc: (({ inputs, backend, attrs }) =>
    run(backend as GpuBackend, inputs as never, attrs as never)) as KernelFunc,
});

export const batchNormKernels: readonly KernelConfig[] = [
  kernel('FusedBatchNormV3', forward),
  kernel('FusedBatchNormGradV3', backward),
];
