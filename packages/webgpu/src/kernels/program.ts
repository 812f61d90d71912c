/**
 * A compute shader by TensorFlow.js' own interface (WebGPUProgram), one thread for each element of its output. Inputs are flat arrays under
 * their names; `index` is the element; numbers come as uniforms. Our kernels are made of these; nothing here knows one.
 */
import { type WebGPUProgram, webgpu_util } from '@tensorflow/tfjs-backend-webgpu';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { GpuBackend } from '../backend.js';

/** See the file's head. */
export interface Shader {
  /** Tells this code from any other. */
  readonly name: string;
  /** In the order in which they are given. */
  readonly inputs: readonly string[];
  /** Names and values; f32 where it says so. */
  readonly numbers?: Readonly<Record<string, number | { readonly f32: number }>>;
  readonly outputShape: number[];
  /** WGSL that ends with `setOutputAtIndex(index, value);`. */
  readonly code: string;
}

class ElementProgram implements WebGPUProgram {
  readonly shaderKey: string;
  readonly variableNames: string[];
  readonly uniforms: string;
  readonly outputShape: number[];
  readonly size = true;
  readonly workgroupSize: [number, number, number] = [64, 1, 1];
  readonly dispatchLayout: { x: number[] };
  dispatch: [number, number, number];

  constructor(private readonly shader: Shader) {
    const { name, inputs, numbers = {}, outputShape } = shader;
    this.shaderKey = `lockstep ${name}`;
    this.variableNames = [...inputs];
    this.outputShape = outputShape;
    this.uniforms = Object.entries(numbers)
      .map(([key, value]) => `${key} : ${typeof value === 'number' ? 'i32' : 'f32'},`)
      .join(' ');
    const { flatDispatchLayout, computeDispatch } = webgpu_util;
    this.dispatchLayout = flatDispatchLayout(outputShape);
    this.dispatch = computeDispatch(this.dispatchLayout, outputShape, this.workgroupSize);
  }

  getUserCode(): string {
    return `fn main(index : i32) { if (index < uniforms.size) { ${this.shader.code} } }`;
  }
}

/** @returns a new f32 tensor, not yet known to the engine */
export function runShader(backend: GpuBackend, shader: Shader, inputs: readonly TensorInfo[]): TensorInfo {
  const uniforms = Object.values(shader.numbers ?? {}).map((value) =>
    typeof value === 'number' ? { type: 'int32', data: [value] } : { type: 'float32', data: [value.f32] },
  );
  return backend.runWebGPUProgram(new ElementProgram(shader), [...inputs], 'float32', uniforms);
}
