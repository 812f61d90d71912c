/**
 * Whether a `tf.layers` model runs TensorFlow.js' own code only. Such a model's training step is a function of its weights and
 * its batch, so it may be recorded without anybody seeing a difference; code of the user's own might count, draw or log.
 */
import { losses, serialization } from '@tensorflow/tfjs-core';
import { LayersModel, layers, metrics } from '@tensorflow/tfjs-layers';

/** Layers, activations, regularizers, initializers and constraints of tfjs-layers, by class name. */
const NAMES = `
  Zeros Ones Constant RandomUniform RandomNormal TruncatedNormal Identity VarianceScaling GlorotUniform GlorotNormal HeNormal
  HeUniform LeCunNormal LeCunUniform Orthogonal MaxNorm UnitNorm NonNeg MinMaxNorm L1L2
  elu selu relu relu6 linear sigmoid hardSigmoid softplus softsign tanh softmax logSoftmax gelu gelu_new mish swish
  InputLayer Model Functional Sequential ReLU LeakyReLU PReLU ELU ThresholdedReLU Softmax Conv1D Conv2D Conv3D Conv2DTranspose
  Conv3DTranspose SeparableConv2D DepthwiseConv2D Cropping2D UpSampling2D RNN SimpleRNNCell SimpleRNN GRUCell GRU LSTMCell
  LSTM StackedRNNCells ConvLSTM2DCell ConvLSTM2D Dropout SpatialDropout1D Dense Flatten Activation RepeatVector Reshape Permute
  Masking Embedding Add Multiply Average Maximum Minimum Concatenate Dot GaussianNoise GaussianDropout AlphaDropout
  BatchNormalization LayerNormalization ZeroPadding2D MaxPooling1D AveragePooling1D MaxPooling2D AveragePooling2D MaxPooling3D
  AveragePooling3D GlobalAveragePooling1D GlobalMaxPooling1D GlobalAveragePooling2D GlobalMaxPooling2D TimeDistributed
  Bidirectional Rescaling CenterCrop CategoryEncoding Resizing RandomWidth`
  .trim()
  .split(/\s+/);

/** A layer, with members that are not public. */
interface Layer {
  readonly name: string;
  readonly stateful: boolean;
  readonly _callHook?: unknown;
  getConfig(): object;
}

/** What of a model this file looks at; some of it is not public. */
export interface TrainableModel {
  readonly name: string;
  readonly layers: readonly Layer[];
  /** As given to `compile`. */
  readonly loss: unknown;
  readonly metrics: unknown;
}

const classes = new Set<unknown>();
let layerClass: abstract new () => unknown;

/** Remembers TensorFlow.js' own classes. Before users register theirs under the same names, if they do. */
export function rememberBuiltIns(): void {
  if (classes.size > 0) return;
  const { classNameMap } = serialization.SerializationMap.getMap();
  for (const name of NAMES) if (classNameMap[name]) classes.add(classNameMap[name]?.[0]);
  layerClass = layers.Layer as unknown as abstract new () => unknown;
}

const functions = new Set<unknown>([...Object.values(losses), ...Object.values(metrics)]);

/** The first thing in a compiled model that is not TensorFlow.js' own, in words; null if there is none. */
export function ownCodeOf(model: TrainableModel): string | null {
  for (const [what, entry] of [
    ['loss', model.loss],
    ['metric', model.metrics],
  ] as const) {
    const own = leaves(entry).find((leaf) => typeof leaf === 'function' && !functions.has(leaf)) as
      | { name?: string }
      | undefined;
    if (own) return `a ${what} is a function of its own ('${own.name || 'anonymous'}')`;
  }
  // A subclass may compute other penalties, and so may a model with a method of its own.
  if (model instanceof LayersModel && !classes.has(model.constructor)) {
    return `it is of a class of its own, ${model.constructor.name}`;
  }
  if (Object.hasOwn(model, 'calculateLosses')) return 'it has its own calculateLosses()';
  return ownCodeOfLayers(model.layers, new Set());
}

function ownCodeOfLayers(all: readonly Layer[], seen: Set<object>): string | null {
  for (const layer of all) {
    const found = ownCodeOfLayer(layer, seen);
    if (found !== null) return found;
  }
  return null;
}

function ownCodeOfLayer(layer: Layer, seen: Set<object>): string | null {
  if (seen.has(layer)) return null;
  seen.add(layer);
  const called = `layer '${layer.name}'`;
  if (!classes.has(layer.constructor)) return `${called} is of a class of its own, ${layer.constructor.name}`;
  if (layer._callHook != null) return `${called} has a call hook`;
  if (layer.stateful) return `${called} keeps a state`;
  for (const [key, value] of Object.entries(layer)) {
    if (typeof value === 'function' && key in Object.getPrototypeOf(layer)) return `${called} has its own ${key}()`;
    // The optimizer of a model within the model does nothing.
    if (key === 'optimizer_') continue;
    const parts = (Array.isArray(value) ? value : [value]).filter((part) => isSerializable(part));
    for (const part of parts) {
      if (part instanceof layerClass) {
        const found = ownCodeOfLayer(part as unknown as Layer, seen);
        if (found !== null) return found;
      } else if (!classes.has(part.constructor))
        return `${called} has a ${key} of its own class, ${part.constructor.name}`;
    }
  }
  return null;
}

function isSerializable(value: unknown): value is object {
  return typeof (value as { getClassName?: unknown } | null)?.getClassName === 'function';
}

/** Entries of a value, an array, or a dictionary, as `compile` takes them. */
function leaves(entry: unknown): unknown[] {
  if (entry == null) return [];
  if (typeof entry === 'object') return Object.values(entry).flatMap(leaves);
  return [entry];
}
