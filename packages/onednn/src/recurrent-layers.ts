/**
 * A user's `tf.layers.lstm` runs its gates as one kernel each way (kernels/recurrent.ts). TensorFlow.js' own composition runs
 * on other backends, with dropout, and with activations other than Keras' usual ones.
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

interface Weight {
  read(): Tensor;
}

/** What of the layer's cell this file uses. */
interface CellState {
  readonly dropout: number;
  readonly recurrentDropout: number;
  readonly useBias: boolean;
  readonly activation: { getClassName(): string };
  readonly recurrentActivation: { getClassName(): string };
  readonly kernel: Weight;
  readonly recurrentKernel: Weight;
  readonly bias: Weight;
}

type Call = (this: CellState, inputs: Tensor | Tensor[], options: object) => Tensor | Tensor[];

const gradient: GradConfig = {
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
};

const PATCHED = Symbol.for('lockstep.onednn.lstmCell');

/** Gives the cell's class its fast path, once per thread. */
export function patchRecurrentLayers(): void {
  const prototype = Object.getPrototypeOf(layers.lstmCell({ units: 1 })) as { call: Call } & Record<symbol, boolean>;
  if (prototype[PATCHED]) return;
  registerGradient(gradient);
  const original = prototype.call;
  Object.defineProperty(prototype, PATCHED, { value: true });
  prototype.call = function (this: CellState, inputs: Tensor | Tensor[], options: object) {
    return suits(this, inputs) ? step(this, inputs as [Tensor, Tensor, Tensor]) : original.call(this, inputs, options);
  };
}

function suits(cell: CellState, inputs: Tensor | Tensor[]): boolean {
  const recurrent = cell.recurrentActivation.getClassName();
  return (
    Array.isArray(inputs) &&
    inputs.length === 3 &&
    inputs.every(({ rank, dtype, size }) => rank === 2 && dtype === 'float32' && size > 0) &&
    !(cell.dropout > 0) &&
    !(cell.recurrentDropout > 0) &&
    cell.activation.getClassName() === 'tanh' &&
    (recurrent === 'hardSigmoid' || recurrent === 'sigmoid') &&
    getKernel('LSTMBlockCell', getBackend()) !== undefined
  );
}

function step(cell: CellState, [x, h, c]: [Tensor, Tensor, Tensor]): Tensor[] {
  return tidy(() => {
    const fromInput = fused.matMul({
      a: x as Tensor2D,
      b: cell.kernel.read() as Tensor2D,
      ...(cell.useBias ? { bias: cell.bias.read() } : {}),
    });
    const z = add(fromInput, matMul(h, cell.recurrentKernel.read()));
    const attrs = { recurrentActivation: cell.recurrentActivation.getClassName() };
    const [output, next] = engine().runKernel('LSTMBlockCell', { z, c }, attrs) as unknown as [Tensor, Tensor];
    return [output, output, next];
  });
}
