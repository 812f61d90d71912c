/**
 * A user's `tf.layers.lstm`, `gru` and `simpleRNN` run a step as one kernel each way (kernels/lstm-cell.ts and its neighbours).
 * TensorFlow.js' own composition runs on other backends, with dropout, and with activations other than Keras' usual ones.
 */
import {
  add,
  engine,
  fused,
  type GradConfig,
  getBackend,
  getKernel,
  matMul,
  registerGradient,
  type Tensor,
  type Tensor2D,
  tidy,
} from '@tensorflow/tfjs-core';
import { layers } from '@tensorflow/tfjs-layers';
import { isNested } from './layers.js';

interface Weight {
  read(): Tensor;
}

/** What of a layer's cell this file uses. A simple cell has no recurrent activation. */
interface CellState {
  readonly dropout: number;
  readonly recurrentDropout: number;
  readonly activation: { getClassName(): string } | null;
  readonly recurrentActivation?: { getClassName(): string } | null;
  readonly kernel: Weight;
  readonly recurrentKernel: Weight;
  readonly bias: Weight | null;
}

type Call = (this: CellState, inputs: Tensor | Tensor[], options: object) => Tensor | Tensor[];

/** A kind of cell: the kernel of its step, how many tensors the step takes, and how it is called. */
interface FastCell {
  readonly kernelName: string;
  readonly inputs: number;
  readonly step: (cell: CellState, inputs: Tensor[]) => Tensor[];
}

const gradients: readonly GradConfig[] = [
  {
    kernelName: 'LSTMBlockCell',
    inputsToSave: ['z', 'c'],
    outputsToSave: [false, false, true, true],
    gradFunc: (dys, saved, attrs) => {
      const [dh, dc] = dys as Tensor[];
      const [z, c, gates, tanh] = saved as [Tensor, Tensor, Tensor, Tensor];
      const inputs = { dh: dh as Tensor, dc: dc as Tensor, z, c, gates, tanh };
      const [dz, dOld] = engine().runKernel('LSTMBlockCellGrad', inputs, attrs) as unknown as [Tensor, Tensor];
      return { z: () => dz, c: () => dOld };
    },
  },
  {
    kernelName: 'GRUBlockCell',
    inputsToSave: ['h', 'kernel'],
    outputsToSave: [false, true],
    gradFunc: (dys, saved, attrs) => {
      const [dh] = dys as [Tensor];
      const [h, kernel, gates] = saved as [Tensor, Tensor, Tensor];
      return asGradients(engine().runKernel('GRUBlockCellGrad', { dh, h, kernel, gates }, attrs));
    },
  },
  {
    kernelName: 'SimpleRNNBlockCell',
    inputsToSave: ['h', 'kernel'],
    outputsToSave: [true],
    gradFunc: (dy, saved) => {
      const [h, kernel, y] = saved as [Tensor, Tensor, Tensor];
      return asGradients(engine().runKernel('SimpleRNNBlockCellGrad', { dy: dy as Tensor, y, h, kernel }));
    },
  },
];

function asGradients(results: unknown): Record<'x' | 'h' | 'kernel', () => Tensor> {
  const [dx, dOld, dWeights] = results as [Tensor, Tensor, Tensor];
  return { x: () => dx, h: () => dOld, kernel: () => dWeights };
}

const PATCHED = Symbol.for('lockstep.onednn.recurrentCell');

/** Gives the cells' classes their fast path, once per thread. */
export function patchRecurrentLayers(): void {
  const isFirst = [
    patch(layers.lstmCell({ units: 1 }), { kernelName: 'LSTMBlockCell', inputs: 3, step: lstmStep }),
    patch(layers.gruCell({ units: 1 } as Parameters<typeof layers.gruCell>[0]), {
      kernelName: 'GRUBlockCell',
      inputs: 2,
      step: gruStep,
    }),
    patch(layers.simpleRNNCell({ units: 1 }), { kernelName: 'SimpleRNNBlockCell', inputs: 2, step: simpleStep }),
  ];
  gradients.forEach((gradient, i) => {
    if (isFirst[i]) registerGradient(gradient);
  });
}

/** @returns false if the class was patched before. */
function patch(instance: object, fast: FastCell): boolean {
  const prototype = Object.getPrototypeOf(instance) as { call: Call } & Record<symbol, boolean>;
  if (Object.hasOwn(prototype, PATCHED)) return false;
  const original = prototype.call;
  Object.defineProperty(prototype, PATCHED, { value: true });
  prototype.call = function (this: CellState, inputs: Tensor | Tensor[], options: object) {
    return suits(this, inputs, fast)
      ? tidy(() => fast.step(this, inputs as Tensor[]))
      : original.call(this, inputs, options);
  };
  return true;
}

function suits(cell: CellState, inputs: Tensor | Tensor[], fast: FastCell): boolean {
  const recurrent = cell.recurrentActivation?.getClassName();
  return (
    Array.isArray(inputs) &&
    inputs.length === fast.inputs &&
    inputs.every(({ rank, dtype, size }) => rank === 2 && dtype === 'float32' && size > 0) &&
    !(cell.dropout > 0) &&
    !(cell.recurrentDropout > 0) &&
    !isNested() &&
    cell.activation?.getClassName() === 'tanh' &&
    (cell.recurrentActivation === undefined || recurrent === 'hardSigmoid' || recurrent === 'sigmoid') &&
    getKernel(fast.kernelName, getBackend()) !== undefined
  );
}

/** The input's share of a step: x·W, and the bias if there is one. */
function fromInput(cell: CellState, x: Tensor): Tensor {
  return fused.matMul({
    a: x as Tensor2D,
    b: cell.kernel.read() as Tensor2D,
    ...(cell.bias ? { bias: cell.bias.read() } : {}),
  });
}

function lstmStep(cell: CellState, [x, h, c]: Tensor[]): Tensor[] {
  const z = add(fromInput(cell, x as Tensor), matMul(h as Tensor, cell.recurrentKernel.read()));
  const attrs = { recurrentActivation: cell.recurrentActivation?.getClassName() as string };
  const results = engine().runKernel('LSTMBlockCell', { z, c: c as Tensor }, attrs);
  const [output, next] = results as unknown as [Tensor, Tensor];
  return [output, output, next];
}

function gruStep(cell: CellState, [x, h]: Tensor[]): Tensor[] {
  const inputs = { x: fromInput(cell, x as Tensor), h: h as Tensor, kernel: cell.recurrentKernel.read() };
  const attrs = { recurrentActivation: cell.recurrentActivation?.getClassName() as string };
  const [next] = engine().runKernel('GRUBlockCell', inputs, attrs) as unknown as [Tensor];
  return [next, next];
}

function simpleStep(cell: CellState, [x, h]: Tensor[]): Tensor[] {
  const inputs = { x: fromInput(cell, x as Tensor), h: h as Tensor, kernel: cell.recurrentKernel.read() };
  const next = engine().runKernel('SimpleRNNBlockCell', inputs) as Tensor;
  return [next, next];
}
