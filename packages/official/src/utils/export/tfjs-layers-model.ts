/**
 * TensorFlow.js' LayersModel: `model.json` with the layers, as Keras writes them, and weights beside it in up to four files, which servers
 * send side by side. `tf.loadLayersModel` reads it. It is not the GraphModel of `tf.loadGraphModel`, which holds a graph of
 * TensorFlow's operations: this one can be looked into, cut and trained on, and its reader is the smaller one.
 */
import { joined } from '../files/bytes.js';
import type { ExportFile, InferenceModel, Layer, ModelExporter } from './export.js';
import { QUANTIZATIONS } from './export.js';
import { storedWeight } from './quantize.js';

export const MODEL_FILE = 'model.json';
const SHARD_BYTES = 4 * 2 ** 20;
/** TensorFlow.js reads no file before all have begun, and a browser begins no more than six with one server: more would never end. */
const MOST_SHARDS = 4;
/** What wrote the form of the layers. */
const KERAS_VERSION = 'tfjs-layers 4.22.0';

export const TFJS_LAYERS_MODEL: ModelExporter = {
  format: 'tfjs',
  entry: MODEL_FILE,
  quantizations: QUANTIZATIONS,
  files,
};

function files({ layers, description }: InferenceModel): ExportFile[] {
  const weights = layers.flatMap(({ name: layer, weights: own }) =>
    Object.entries(own).map(([name, { shape, values }]) => {
      if (!(values instanceof Float32Array)) throw new RangeError(`weight ${layer}/${name} is not of f32.`);
      const { bytes, quantization } = storedWeight(values, shape, description.quantization);
      return {
        bytes,
        entry: { name: `${layer}/${name}`, shape, dtype: 'float32', ...(quantization && { quantization }) },
      };
    }),
  );
  const shards = shardsOf(weights.map(({ bytes }) => bytes));
  const paths = shards.map((_, i) => `group1-shard${i + 1}of${shards.length}.bin`);
  const model = {
    format: 'layers-model',
    generatedBy: 'lockstep',
    convertedBy: null,
    modelTopology: {
      class_name: 'Model',
      config: {
        name: 'resnet_model',
        layers: layers.map(layerJson),
        input_layers: layers.filter(({ inputs }) => inputs.length === 0).map(({ name }) => [name, 0, 0]),
        output_layers: [[layers.at(-1)?.name, 0, 0]],
      },
      keras_version: KERAS_VERSION,
      backend: 'tensor_flow.js',
    },
    weightsManifest: [{ paths, weights: weights.map(({ entry }) => entry) }],
    userDefinedMetadata: description,
  };
  return [
    ...shards.map((pieces, i) => ({ name: paths[i] as string, pieces })),
    // Last: it makes the model whole.
    { name: MODEL_FILE, pieces: [new TextEncoder().encode(`${JSON.stringify(model)}\n`)] },
  ];
}

function layerJson({ className, name, config, inputs }: Layer) {
  return {
    class_name: className,
    name,
    config: { name, ...config },
    inbound_nodes: inputs.length === 0 ? [] : [inputs.map((input) => [input, 0, 0, {}])],
  };
}

/** The weights one after another, cut wherever that is: at every 4 MiB, or in four. One file at least. */
function shardsOf(weights: readonly Uint8Array[]): Uint8Array[][] {
  const bytes = joined(weights);
  const size = Math.max(SHARD_BYTES, Math.ceil(bytes.length / MOST_SHARDS));
  const count = Math.max(1, Math.ceil(bytes.length / size));
  return Array.from({ length: count }, (_, i) => [bytes.subarray(i * size, (i + 1) * size)]);
}
