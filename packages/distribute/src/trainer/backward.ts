/**
 * Gradients one by one, as backward finishes them: the tape walk of `tf.variableGrads`, with a callback.
 *
 * TensorFlow.js hands out all gradients at the end and keeps every intermediate until then. Here a variable's gradient is
 * given away (and its memory freed) the moment its last contribution is in, so that packing and reduction start while
 * backward goes on; what a tape node saved, and the gradients of its outputs, go as soon as the node is done. The
 * arithmetic, its order included, is TensorFlow.js' own (tfjs-core src/tape.ts), so gradients are bit-identical to it.
 */
import * as tf from '@tensorflow/tfjs-core';
import { describe } from '../describe.js';

/** What this file needs of the engine's tape; tfjs-core has these fields, without exporting their types. */
interface TapeNode {
  readonly kernelName: string;
  readonly inputs: Record<string, tf.Tensor>;
  readonly outputs: tf.Tensor[];
  readonly saved?: tf.Tensor[];
  readonly gradient?: (dys: (tf.Tensor | null)[]) => Record<string, () => tf.Tensor>;
}
interface EngineState {
  activeTape: TapeNode[] | null;
  gradientDepth: number;
  activeScope: { readonly id: number };
}
interface TapeRecorder {
  readonly state: EngineState;
  startTape(): void;
  endTape(): void;
}

/**
 * A gradient that is final. It may be read until the callback returns, and is freed then.
 * No later part of this backward pass reads the variable, so its value may change from now on.
 */
export type GradientCallback = (variable: tf.Variable, gradient: tf.Tensor) => void;

export interface BackwardOptions {
  /** Factor on the loss, hence on every gradient. Default 1. */
  readonly lossScale?: number;
  /** Called between the forward and the backward pass. */
  readonly onForward?: () => void;
}

/**
 * Runs `loss`, then backward; calls `onGradient` once for each of `variables` that the loss depends on.
 *
 * @returns the loss, a scalar that the caller disposes.
 * @throws TypeError if the loss is no scalar, Error if it depends on none of the variables.
 */
export function backward(
  loss: () => tf.Scalar,
  variables: readonly tf.Variable[],
  onGradient: GradientCallback,
  { lossScale = 1, onForward }: BackwardOptions = {},
): tf.Scalar {
  const engine = tf.engine() as unknown as TapeRecorder;
  const { state } = engine;
  if (state.gradientDepth !== 0) {
    throw new Error('backward() was called inside tf.grad(); it computes first-order gradients only.');
  }
  engine.startTape();
  let value: tf.Scalar;
  try {
    value = tf.tidy('forward', loss);
  } catch (error) {
    releaseTape(state);
    throw error;
  } finally {
    engine.endTape();
  }
  try {
    checkLoss(value);
    onForward?.();
    walk(state.activeTape ?? [], value, variables, onGradient, lossScale);
  } catch (error) {
    tf.dispose(value);
    throw error;
  } finally {
    releaseTape(state);
  }
  return value;
}

/** As TensorFlow.js: a scalar, of rank 0. A loss of another shape would be summed unseen; one of integers has no gradient. */
function checkLoss(loss: unknown): void {
  if (loss instanceof tf.Tensor && loss.rank === 0 && loss.dtype === 'float32') return;
  if (loss instanceof Promise) {
    throw new TypeError('The loss must be a scalar tensor, got a promise.\nhelp: the function must not be async.');
  }
  throw new TypeError(
    `The loss must be a scalar tensor of float32, got ${describe(loss)}.\nhelp: tf.mean() makes one of the losses of a batch.`,
  );
}

/** Frees what nodes saved and were not asked for. */
function releaseTape(state: EngineState): void {
  for (const node of state.activeTape ?? []) releaseSaved(node);
  state.activeTape = null;
}

function releaseSaved(node: TapeNode): void {
  for (const tensor of node.saved ?? []) tensor.dispose();
}

function walk(
  tape: readonly TapeNode[],
  y: tf.Tensor,
  variables: readonly tf.Variable[],
  onGradient: GradientCallback,
  lossScale: number,
): void {
  const { nodes, fromVariables } = nodesBetween(tape, variables, y);
  if (nodes.length === 0) {
    throw new Error(
      'The loss depends on none of the variables.\nhelp: compute it inside the function that is given, from these variables.',
    );
  }
  const variableById = new Map(variables.map((variable) => [variable.id, variable]));
  const outstanding = new Map<number, number>();
  for (const node of nodes) {
    for (const input of Object.values(node.inputs)) {
      if (variableById.has(input.id)) outstanding.set(input.id, (outstanding.get(input.id) ?? 0) + 1);
    }
  }
  tf.tidy('backward', () => {
    const gradients = new Map<number, tf.Tensor>([[y.id, tf.fill(y.shape, lossScale)]]);
    for (let i = nodes.length - 1; i >= 0; i--) {
      const node = nodes[i] as TapeNode;
      const inputs = Object.entries(node.inputs).filter(([, input]) => fromVariables.has(input.id));
      const contributions = differentiate(node, inputs, gradients);
      releaseSaved(node);
      // The node's outputs have no other producer: nobody reads their gradients again.
      for (const output of node.outputs) {
        gradients.get(output.id)?.dispose();
        gradients.delete(output.id);
      }
      for (const [j, [, input]] of inputs.entries()) {
        accumulate(gradients, input, contributions[j] as tf.Tensor);
      }
      for (const [, input] of inputs) {
        const left = outstanding.get(input.id);
        if (left === undefined) continue;
        outstanding.set(input.id, left - 1);
        if (left > 1) continue;
        const gradient = gradients.get(input.id) as tf.Tensor;
        onGradient(variableById.get(input.id) as tf.Variable, gradient);
        gradient.dispose();
        gradients.delete(input.id);
      }
    }
  });
}

function accumulate(gradients: Map<number, tf.Tensor>, input: tf.Tensor, contribution: tf.Tensor): void {
  const sum = gradients.get(input.id);
  if (sum === undefined) {
    gradients.set(input.id, contribution);
    return;
  }
  gradients.set(input.id, tf.engine().runKernel('Add', { a: sum, b: contribution } as never) as tf.Tensor);
  sum.dispose();
  contribution.dispose();
}

/** Gradients of one node's inputs, each a tensor of its own that lives in the caller's scope. */
function differentiate(
  node: TapeNode,
  inputs: readonly (readonly [string, tf.Tensor])[],
  gradients: ReadonlyMap<number, tf.Tensor>,
): tf.Tensor[] {
  const { gradient } = node;
  if (!gradient) throw new Error(`Cannot compute gradient: gradient function not found for ${node.kernelName}.`);
  const engine = tf.engine();
  const state = engine.state as unknown as EngineState;
  return tf.tidy(() => {
    const scope = state.activeScope.id;
    const functions = gradient(node.outputs.map((output) => gradients.get(output.id) ?? null));
    const seen = new Set<tf.Tensor>();
    return inputs.map(([name, input]) => {
      const compute = functions[name];
      if (!compute) {
        throw new Error(
          `Cannot backprop through input ${name} of ${node.kernelName}. Available gradients found: ${Object.keys(functions)}.`,
        );
      }
      const dx = tf.tidy(compute);
      if (dx.dtype !== 'float32' || !tf.util.arraysEqual(dx.shape, input.shape)) {
        throw new Error(
          `Error in gradient for op ${node.kernelName}. The gradient of input '${name}' is ${dx.dtype} [${dx.shape}], ` +
            `but must be float32 of the input's shape [${input.shape}].`,
        );
      }
      // A gradient function may hand out dy itself, something saved, or one tensor for two inputs. A clone shares the
      // data, so that each can be freed in its own time.
      const isOwn = dx.scopeId === scope && !seen.has(dx);
      seen.add(dx);
      return isOwn ? dx : (engine.runKernel('Identity', { x: dx } as never) as tf.Tensor);
    });
  });
}

/** Tape nodes that lie between the variables and `y`, in order, and the ids of tensors that depend on the variables. */
function nodesBetween(
  tape: readonly TapeNode[],
  variables: readonly tf.Variable[],
  y: tf.Tensor,
): { nodes: TapeNode[]; fromVariables: Set<number> } {
  const fromVariables = new Set(variables.map((variable) => variable.id));
  const forward = tape.filter((node) => {
    const depends = Object.values(node.inputs).some((input) => fromVariables.has(input.id));
    if (depends) for (const output of node.outputs) fromVariables.add(output.id);
    return depends;
  });
  const leadToY = new Set([y.id]);
  const nodes: TapeNode[] = [];
  for (let i = forward.length - 1; i >= 0; i--) {
    const node = forward[i] as TapeNode;
    if (!node.outputs.some((output) => leadToY.has(output.id))) continue;
    for (const input of Object.values(node.inputs)) leadToY.add(input.id);
    nodes.push(node);
  }
  return { nodes: nodes.reverse(), fromVariables };
}
