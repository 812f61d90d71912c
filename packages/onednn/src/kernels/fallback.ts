/**
 * Kernels that are TensorFlow.js' own, in a step that is recorded (program.ts): such a kernel reads and makes plain arrays, and
 * knows nothing of recordings. A replay calls it again, on the memory where its inputs lie, and copies what it returns to where
 * the recording's results lie.
 *
 * That is right only for a function of its inputs whose results always have the same shapes. So what is not, or cannot be told
 * to be (strings, complex numbers, numbers in an array of another type), makes the recording useless; and the kernel is run
 * twice while it is recorded, to see that it gives the same.
 */
import type { KernelFunc, NamedTensorInfoMap, TensorInfo } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import type { StepListener } from '../memory/step-listener.js';
import { TensorStorage } from '../memory/storage.js';
import type { TypedValues, Values } from './loops.js';
import { isNumeric } from './tools.js';

type Call = Parameters<KernelFunc>[0];

/** Kernels whose results have a size that depends on the data. */
const VARIABLE_SIZE = /^(Where|Unique|NonMaxSuppression|Sparse(Reshape|FillEmptyRows)|Ragged|String)/;

/** A kernel of TensorFlow.js that can be part of a recorded step. */
export function recordable(name: string, kernelFunc: KernelFunc): KernelFunc {
  return (call) => {
    const { recorder } = (call.backend as OneDnnBackend).runtime;
    return recorder === null || recorder.isForeign ? kernelFunc(call) : record(name, kernelFunc, call, recorder);
  };
}

function record(name: string, kernelFunc: KernelFunc, call: Call, recorder: StepListener): TensorInfo | TensorInfo[] {
  const backend = call.backend as OneDnnBackend;
  const { runtime } = backend;
  const { result, hasRead } = recorder.foreign(() => kernelFunc(call));
  const inputs = Object.values(call.inputs).filter((input) => input !== undefined && input !== null) as TensorInfo[];
  const outputs = newTensors(result, inputs);
  if (!hasRead) {
    for (const output of outputs) if (isNumeric(output)) recorder.constant(backend.storage(output).view());
    return result;
  }
  const attrs = textOf(call.attrs);
  const reason =
    attrs === null || VARIABLE_SIZE.test(name) || !inputs.every(isNumeric) || !outputs.every(isPlain(backend));
  if (reason) {
    recorder.refuse('values were read for a kernel of TensorFlow.js');
    return result;
  }
  const again = repeat(name, kernelFunc, call, inputs, outputs);
  let isSame = true;
  runtime.outside(() => {
    try {
      again((fresh, kept) => {
        isSame &&= kept.every((value, i) => Object.is(value, fresh[i]));
      });
    } catch {
      isSame = false;
    }
  });
  if (!isSame) recorder.refuse('a second run computed something else');
  recorder.host(() => again((fresh, kept) => kept.set(fresh)), [name, attrs as string]);
  return result;
}

/** Tensors of a result that are not inputs under another shape or name. */
function newTensors(result: TensorInfo | TensorInfo[], inputs: readonly TensorInfo[]): TensorInfo[] {
  return [result].flat().filter(({ dataId }) => !inputs.some((input) => input.dataId === dataId));
}

const isPlain = (backend: OneDnnBackend) => (tensor: TensorInfo) =>
  isNumeric(tensor) && backend.unresolved(tensor).isTyped;

/** Attributes in words, which tell two calls apart; null if they cannot. */
function textOf(attrs: Call['attrs']): string | null {
  try {
    return JSON.stringify(attrs ?? {});
  } catch {
    return null;
  }
}

/** Runs the kernel anew; `use` gets its results, each with the memory of the recording's. */
function repeat(
  name: string,
  kernelFunc: KernelFunc,
  { inputs, attrs, backend: any }: Call,
  tensors: readonly TensorInfo[],
  outputs: readonly TensorInfo[],
): (use: (fresh: Values, kept: TypedValues) => void) => void {
  const backend = any as OneDnnBackend;
  const { runtime } = backend;
  const kept = outputs.map((output) => backend.unresolved(output).view() as TypedValues);
  // The inputs' own data may be gone by then; its memory is the recording's.
  const views = tensors.map((tensor) => backend.storage(tensor).view());
  let parts: { storage: TensorStorage; shape: number[] }[] = [];
  runtime.outside(() => {
    parts = tensors.map(({ dtype, shape }, i) => {
      return { storage: new TensorStorage(dtype, runtime.pool, runtime, views[i] as TypedValues), shape };
    });
  });
  return (use) =>
    backend.withTensors(parts, (...standIns) => {
      const result = kernelFunc({ inputs: withStandIns(inputs, tensors, standIns), attrs: attrs as never, backend });
      const fresh = newTensors(result, standIns);
      try {
        fresh.forEach((tensor, i) => {
          const { shape } = outputs[i] as TensorInfo;
          if (`${tensor.shape}` !== `${shape}`) {
            throw new Error(
              `Kernel '${name}' made [${shape}] when the step was recorded, and [${tensor.shape}] now.\n` +
                'help: LOCKSTEP_RECORDING=0 leaves every step to TensorFlow.js.',
            );
          }
          use(backend.storage(tensor).view() as Values, kept[i] as TypedValues);
        });
      } finally {
        for (const { dataId } of fresh) backend.disposeData(dataId);
      }
    });
}

/** The call's inputs, a map or a list, with others in the place of its tensors. */
function withStandIns(
  inputs: Call['inputs'],
  tensors: readonly TensorInfo[],
  standIns: readonly TensorInfo[],
): NamedTensorInfoMap {
  const replaced = Object.entries(inputs).map(([key, tensor]) => {
    const at = tensors.indexOf(tensor as TensorInfo);
    return [key, at < 0 ? tensor : standIns[at]] as const;
  });
  if (Array.isArray(inputs)) return replaced.map(([, tensor]) => tensor) as unknown as NamedTensorInfoMap;
  return Object.fromEntries(replaced) as NamedTensorInfoMap;
}
