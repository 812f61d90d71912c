/**
 * What a kernel file exports, and how kernels get registered: ours where the inputs suit oneDNN, TensorFlow.js' `cpu` kernel
 * for everything else (integer dtypes, channels-first data, empty tensors).
 */
import {
  getKernel,
  getKernelsForBackend,
  type KernelConfig,
  type KernelFunc,
  type NamedAttrMap,
  type NamedTensorInfoMap,
  registerKernel,
  type TensorInfo,
  unregisterKernel,
  util,
} from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { recordable } from './fallback.js';

export const BACKEND_NAME = 'onednn';

export interface KernelCall<I = NamedTensorInfoMap, A = NamedAttrMap> {
  readonly inputs: I;
  readonly attrs: A;
  readonly backend: OneDnnBackend;
}

/** A kernel of ours. `run` returns null for inputs that are left to TensorFlow.js' `cpu` kernel of that name. */
export interface Kernel {
  readonly name: string;
  run(call: KernelCall): TensorInfo | TensorInfo[] | null;
  /** Whether what is left to `cpu` is left because that is quicker, so that nobody need be warned. */
  readonly isFallbackQuick?: boolean;
}

/** Types a kernel's inputs and attributes where it is written; TensorFlow.js' registry is untyped. */
export function kernel<I, A>(
  name: string,
  run: (call: KernelCall<I, A>) => TensorInfo | TensorInfo[] | null,
  options: Pick<Kernel, 'isFallbackQuick'> = {},
): Kernel {
  return { name, run: run as unknown as Kernel['run'], ...options };
}

/** A kernel with its fallback: what is registered. */
export type CompleteKernel = (call: KernelCall) => TensorInfo | TensorInfo[];

/**
 * Puts kernels in the place of those that were copied from `cpu`.
 * @param decorate gets all of them by name and may put others in the place of some.
 */
export function registerKernels(
  kernels: readonly Kernel[],
  decorate: (complete: ReadonlyMap<string, CompleteKernel>) => ReadonlyMap<string, CompleteKernel> = (same) => same,
): void {
  const complete = new Map<string, CompleteKernel>();
  for (const { name, run, isFallbackQuick } of kernels) {
    const config = getKernel(name, 'cpu') as KernelConfig | undefined;
    const fallback = config && recordable(name, config.kernelFunc);
    complete.set(name, (call) => {
      const result = run(call);
      if (result !== null) return result;
      if (!fallback) {
        const shapes = Object.entries(call.inputs).map(([key, t]) => `${key} ${t?.dtype}[${t?.shape}]`);
        throw new Error(`Kernel '${name}' of backend 'onednn' does not take ${shapes.join(', ')}.`);
      }
      if (!isFallbackQuick) warnIfLarge(name, call);
      return fallback(call as unknown as Parameters<KernelFunc>[0]);
    });
  }
  for (const [name, run] of decorate(complete)) {
    const kernelFunc = ((call: KernelCall) => {
      const { recorder } = call.backend.runtime;
      if (recorder === null) return call.backend.attempt(run, call);
      recorder.kernel = name;
      const result = call.backend.attempt(run, call);
      recorder.kernel = null;
      return result;
    }) as unknown as KernelFunc;
    if (getKernel(name, BACKEND_NAME)) unregisterKernel(name, BACKEND_NAME);
    registerKernel({ kernelName: name, backendName: BACKEND_NAME, kernelFunc });
  }
}

/** Puts `cpu`'s kernels that are not `ours` into the backend. */
export function registerFallbacks(ours: ReadonlySet<string>): void {
  eachFallback(ours, recordable);
}

function eachFallback(
  ours: ReadonlySet<string>,
  wrap: (kernelName: string, kernelFunc: KernelFunc) => KernelFunc,
): void {
  for (const { kernelName, kernelFunc, ...hooks } of getKernelsForBackend('cpu')) {
    if (ours.has(kernelName)) continue;
    if (getKernel(kernelName, BACKEND_NAME)) unregisterKernel(kernelName, BACKEND_NAME);
    registerKernel({ ...hooks, kernelName, backendName: BACKEND_NAME, kernelFunc: wrap(kernelName, kernelFunc) });
  }
}

/** Elements from which a kernel in plain JavaScript is worth a warning: a million operations take about a millisecond. */
const LARGE = 2 ** 20;
const warned = new Set<string>();

function warnIfLarge(name: string, { inputs }: KernelCall): void {
  const tensors = Object.entries(inputs);
  if (warned.has(name) || !tensors.some(([, t]) => t && util.sizeFromShape(t.shape) >= LARGE)) return;
  warned.add(name);
  const shapes = tensors.map(([key, t]) => `${key} ${t?.dtype}[${t?.shape}]`).join(', ');
  process.emitWarning(
    `'${name}' of ${shapes} runs in TensorFlow.js' slow cpu kernel; this is reported once per kernel.`,
    {
      type: 'OneDnnPerformanceWarning',
    },
  );
}

/** Tells `tell` about every kernel that is `cpu`'s and not ours. For LOCKSTEP_VERBOSE only: it costs on every call. */
export function observeFallbacks(
  ours: ReadonlySet<string>,
  tell: (name: string, shapes: string, ms: number) => void,
): void {
  eachFallback(ours, (name, kernelFunc) => {
    const timed: KernelFunc = (call) => {
      const start = performance.now();
      const result = kernelFunc(call);
      const shapes = Object.values(call.inputs).map((t) => `[${t?.shape}]`);
      tell(name, shapes.join(' '), performance.now() - start);
      return result;
    };
    return recordable(name, timed);
  });
}

/** True if every tensor is f32 and has elements: what oneDNN kernels take. */
export function isFloat(...tensors: (TensorInfo | undefined | null)[]): boolean {
  return tensors.every(
    (t) => t === undefined || t === null || (t.dtype === 'float32' && util.sizeFromShape(t.shape) > 0),
  );
}
