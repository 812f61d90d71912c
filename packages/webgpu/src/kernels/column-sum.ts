/**
 * Sums over all rows of a matrix, a number for each column, in two stages: each thread of the first sums some rows of one column, the second
 * sums those sums. What is summed is an expression. Few threads that each sum everything, as TensorFlow.js' kernels have them, leave most of a
 * GPU idle and lose digits: an f32 sum of n numbers in pieces of √n is off by about 2√n roundings at most, not n.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { GpuBackend } from '../backend.js';
import { runShader } from './program.js';

export interface ColumnSum {
  /** Tells `term` from any other. */
  readonly name: string;
  readonly inputs: Readonly<Record<string, TensorInfo>>;
  /** WGSL of what is summed: of element `i`, in column `c`; `uniforms.epsilon`. */
  readonly term: string;
  readonly epsilon?: number;
  readonly rows: number;
  readonly columns: number;
  /** On the sum. Default 1. */
  readonly factor?: number;
}

/** Rows that one thread sums, for a sum of `rows`. */
const pieces = (rows: number) => Math.max(1, Math.ceil(Math.sqrt(rows)));

/** @returns [columns] */
export function columnSum(backend: GpuBackend, sum: ColumnSum): TensorInfo {
  const { rows, columns, factor = 1 } = sum;
  const parts = pieces(rows);
  if (parts === 1) return stage(backend, sum, 1, factor, [columns]);
  const partial = stage(backend, sum, parts, 1, [parts, columns]);
  const whole = sumParts(backend, partial, parts, columns, factor, [columns]);
  backend.disposeData(partial.dataId);
  return whole;
}

/** The second stage by itself. @param partial [parts, columns], of any shape @param outputShape of `columns` elements */
export function sumParts(
  backend: GpuBackend,
  partial: TensorInfo,
  parts: number,
  columns: number,
  factor: number,
  outputShape: number[],
): TensorInfo {
  const sum = { name: 'parts', inputs: { x: partial }, term: 'x[i]', rows: parts, columns };
  return stage(backend, sum, 1, factor, outputShape);
}

function stage(
  backend: GpuBackend,
  { name, inputs, term, epsilon = 0, rows, columns }: ColumnSum,
  parts: number,
  factor: number,
  outputShape: number[],
): TensorInfo {
  const shader = {
    name: `column sum of ${name}`,
    inputs: Object.keys(inputs),
    numbers: { rows, columns, perPart: Math.ceil(rows / parts), factor: { f32: factor }, epsilon: { f32: epsilon } },
    outputShape,
    code: `
      let c = index % uniforms.columns;
      let begin = (index / uniforms.columns) * uniforms.perPart;
      let end = min(uniforms.rows, begin + uniforms.perPart);
      var sum = 0.0;
      for (var r = begin; r < end; r++) {
        let i = r * uniforms.columns + c;
        sum += ${term};
      }
      setOutputAtIndex(index, sum * uniforms.factor);`,
  };
  return runShader(backend, shader, Object.values(inputs));
}
