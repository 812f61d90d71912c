/**
 * Softmax and its logarithm over the last axis (Softmax, LogSoftmax). `cpu` composes softmax of six kernels; here it is one
 * pass of a loop, or oneDNN's primitive for large tensors of finite numbers.
 */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import { Arg } from '../ffi/constants.js';
import type { Runtime } from '../runtime.js';
import { allFinite } from './elementwise.js';
import { isFloat, type Kernel, kernel } from './kernel.js';
import type { TypedValues, Values } from './loops.js';
import { fastPrimitive, optional, SMALL_COSTLY, viewOf } from './tools.js';

function softmaxRows(x: Values, y: TypedValues, rows: number, columns: number): void {
  for (let start = 0; start < rows * columns; start += columns) {
    let maximum = x[start] as number;
    for (let c = 1; c < columns; c++) maximum = Math.max(maximum, x[start + c] as number);
    let sum = 0;
    for (let c = 0; c < columns; c++) {
      const value = Math.exp((x[start + c] as number) - maximum);
      y[start + c] = value;
      sum += value;
    }
    for (let c = 0; c < columns; c++) y[start + c] = (y[start + c] as number) / sum;
  }
}

function logSoftmaxRows(x: Values, y: TypedValues, rows: number, columns: number): void {
  for (let start = 0; start < rows * columns; start += columns) {
    let maximum = x[start] as number;
    for (let c = 1; c < columns; c++) maximum = Math.max(maximum, x[start + c] as number);
    let sum = 0;
    for (let c = 0; c < columns; c++) sum += Math.exp((x[start + c] as number) - maximum);
    const log = Math.log(sum);
    for (let c = 0; c < columns; c++) y[start + c] = (x[start + c] as number) - maximum - log;
  }
}

function primitive(runtime: Runtime, rows: number, columns: number, isLog: boolean) {
  return optional(runtime, `softmax ${rows} ${columns} ${isLog}`, () => {
    const layout = runtime.rowMajor([rows, columns]);
    const descriptor = runtime.dnnl.softmaxForward(layout, 1, isLog);
    const args = [[Arg.src, layout] as const, [Arg.dst, layout] as const];
    return fastPrimitive(runtime, descriptor, args, `${isLog ? 'log_' : ''}softmax [${rows},${columns}]`);
  });
}

function softmaxKernel(name: string, isLog: boolean): Kernel {
  return kernel<{ logits: TensorInfo }, { dim?: number; axis?: number }>(
    name,
    ({ inputs: { logits }, attrs, backend }) => {
      const { shape } = logits;
      const axis = attrs.dim ?? attrs.axis ?? -1;
      if (!isFloat(logits) || shape.length === 0 || (axis !== -1 && axis !== shape.length - 1)) return null;
      const columns = shape.at(-1) as number;
      const rows = util.sizeFromShape(shape) / columns;
      const { runtime } = backend;
      const storage = backend.storage(logits);
      storage.makePlain();
      const inLoop = (x: TensorInfo) => {
        const y = backend.allocate(shape);
        const [values, output] = [viewOf(backend, x), viewOf(backend, y)];
        runtime.host(() => (isLog ? logSoftmaxRows : softmaxRows)(values, output, rows, columns));
        return y;
      };
      const compiled = rows * columns >= SMALL_COSTLY ? primitive(runtime, rows, columns, isLog) : null;
      if (!compiled) return inLoop(logits);
      // A row with NaN is NaN, one with infinities depends: the loop knows.
      const verdict = allFinite(runtime, storage.address, runtime.rowMajor([rows, columns]));
      const compute = (): [TensorInfo] => {
        const y = backend.allocate(shape);
        compiled.run(storage.address, backend.storage(y).address);
        return [y];
      };
      return backend.either(verdict, [logits], compute, (x) => [inLoop(x)])[0];
    },
  );
}

export const softmaxKernels: readonly Kernel[] = [softmaxKernel('Softmax', false), softmaxKernel('LogSoftmax', true)];
