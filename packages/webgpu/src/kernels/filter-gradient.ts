/**
 * The gradient of a convolution's filter. TensorFlow.js has a thread for each weight, which sums over the whole batch: the first convolution
 * of a ResNet for CIFAR is 432 threads that each add 131,072 products. Here the batch is cut into parts, so that there are enough threads, and
 * the parts' sums are added up. Images with channels first go to TensorFlow.js' own kernel.
 */
import {
  backend_util,
  getKernel,
  type KernelConfig,
  type KernelFunc,
  type NamedAttrMap,
  type TensorInfo,
} from '@tensorflow/tfjs-core';
import type { GpuBackend } from '../backend.js';
import { sumParts } from './column-sum.js';
import { runShader } from './program.js';

const NAME = 'Conv2DBackpropFilter';
/** Threads that keep a GPU busy. */
const THREADS = 65_536;

interface Attributes {
  readonly strides: number | [number, number];
  readonly pad: 'same' | 'valid' | number | backend_util.ExplicitPadding;
  readonly dataFormat: 'NHWC' | 'NCHW';
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
  readonly filterShape: [number, number, number, number];
}

/** x [n, h, w, ci], dy [n, h', w', co] → [height, width, ci, co] */
function filterGradient(backend: GpuBackend, x: TensorInfo, dy: TensorInfo, attributes: Attributes): TensorInfo {
  const { strides, pad, dimRoundingMode, filterShape } = attributes;
  const info = backend_util.computeConv2DInfo(
    ...([x.shape as [number, number, number, number], filterShape, strides, 1, pad, dimRoundingMode] as const),
  );
  const weights = filterShape.reduce((product, size) => product * size, 1);
  const lines = info.batchSize * info.outHeight;
  const parts = Math.max(1, Math.min(lines, Math.ceil(THREADS / weights)));
  const shader = {
    name: NAME,
    inputs: ['x', 'dy'],
    numbers: {
      weights,
      lines,
      perPart: Math.ceil(lines / parts),
      ...{ ci: info.inChannels, co: info.outChannels, filterWidth: info.filterWidth },
      ...{ inHeight: info.inHeight, inWidth: info.inWidth, outHeight: info.outHeight, outWidth: info.outWidth },
      ...{ strideHeight: info.strideHeight, strideWidth: info.strideWidth },
      ...{ top: info.padInfo.top, left: info.padInfo.left },
    },
    outputShape: parts === 1 ? filterShape : [parts, weights],
    code: `
      let weight = index % uniforms.weights;
      let o = weight % uniforms.co;
      let c = (weight / uniforms.co) % uniforms.ci;
      let column = (weight / (uniforms.co * uniforms.ci)) % uniforms.filterWidth;
      let row = weight / (uniforms.co * uniforms.ci * uniforms.filterWidth);
      let begin = (index / uniforms.weights) * uniforms.perPart;
      let end = min(uniforms.lines, begin + uniforms.perPart);
      var sum = 0.0;
      for (var line = begin; line < end; line++) {
        let xRow = row + (line % uniforms.outHeight) * uniforms.strideHeight - uniforms.top;
        if (xRow < 0 || xRow >= uniforms.inHeight) { continue; }
        let xLine = ((line / uniforms.outHeight) * uniforms.inHeight + xRow) * uniforms.inWidth;
        var ofLine = 0.0;
        for (var yColumn = 0; yColumn < uniforms.outWidth; yColumn++) {
          let xColumn = column + yColumn * uniforms.strideWidth - uniforms.left;
          if (xColumn < 0 || xColumn >= uniforms.inWidth) { continue; }
          ofLine += x[(xLine + xColumn) * uniforms.ci + c] * dy[(line * uniforms.outWidth + yColumn) * uniforms.co + o];
        }
        sum += ofLine;
      }
      setOutputAtIndex(index, sum);`,
  };
  const partial = runShader(backend, shader, [x, dy]);
  if (parts === 1) return partial;
  const whole = sumParts(backend, partial, parts, weights, 1, filterShape);
  backend.disposeData(partial.dataId);
  return whole;
}

/** To be asked once, while TensorFlow.js' own kernel is registered. */
export function filterGradientKernel(): KernelConfig {
  const original = getKernel(NAME, 'webgpu').kernelFunc;
  return {
    kernelName: NAME,
    backendName: 'webgpu',
    kernelFunc: ((call) => {
      const attributes = call.attrs as unknown as Attributes & NamedAttrMap;
      if (attributes.dataFormat !== 'NHWC') return original(call);
      const { x, dy } = call.inputs as { x: TensorInfo; dy: TensorInfo };
      return filterGradient(call.backend as GpuBackend, x, dy, attributes);
    }) as KernelFunc,
  };
}
