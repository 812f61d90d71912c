/**
 * Checkpoints as TensorFlow writes them: a bundle of two files, `model.ckpt-<step>.index` and `….data-00000-of-00001`, and the folder's text
 * file `checkpoint`. Metadata, which the format has no place for, are a tensor of text beside the others, and their `global_step` is the
 * int64 variable of that name, so that TensorFlow finds what it looks for and steps over the rest.
 *
 * A checkpoint of TensorFlow's own has no metadata but that step. Types are widened or narrowed to f32 and int32, which is what variables
 * have here; a tensor that is neither (texts, 64-bit numbers out of range, complex ones) is left out.
 */
import type { CheckpointFormat } from './checkpoint-format.js';
import { type StoredTensor, type TensorFile, TensorFileError } from './safetensors.js';
import { INDEX_ENDING, TensorBundle } from './tensorflow/bundle-reader.js';
import { encodeBundle, type NewTensor } from './tensorflow/bundle-writer.js';
import { checkpointState, latestByState, STATE_FILE } from './tensorflow/checkpoint-state.js';

/** The tensor of text that holds the metadata, as JSON. It lies first in the data file: by it the file is known for one of ours. */
export const METADATA_TENSOR = 'lockstep_metadata';
const GLOBAL_STEP = 'global_step';

export const TENSORFLOW: CheckpointFormat = {
  name: 'tensorflow',
  prefix: 'model.ckpt-',
  endings: ['.data-00000-of-00001', INDEX_ENDING],
  hasChecksums: true,
  list: { file: STATE_FILE, write: checkpointState, latest: latestByState },
  encode(content) {
    const { data, index } = encodeBundle(tensorsOf(content));
    return [data, [index]];
  },
  // Data files are found by the index: there may be any number of them.
  read: (paths) => readBundle((paths.at(-1) as string).slice(0, -INDEX_ENDING.length)),
};

function* tensorsOf({ tensors, metadata }: TensorFile): Generator<NewTensor, void> {
  const json = new TextEncoder().encode(JSON.stringify(metadata));
  yield { name: METADATA_TENSOR, dtype: 'string', shape: [], values: [json] };
  const { [GLOBAL_STEP]: step } = metadata;
  if (step !== undefined) {
    yield { name: GLOBAL_STEP, dtype: 'int64', shape: [], values: BigInt64Array.of(BigInt(step)) };
  }
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    yield { name, dtype: values instanceof Int32Array ? 'int32' : 'float', shape, values };
  }
}

function readBundle(prefix: string): TensorFile {
  const bundle = new TensorBundle(prefix);
  const tensors: Record<string, StoredTensor> = {};
  let metadata: Record<string, string> = {};
  for (const { name, dtype, shape } of bundle.tensors.values()) {
    if (name === METADATA_TENSOR) {
      metadata = parseMetadata(bundle.read(name));
      continue;
    }
    if (dtype.decode === undefined) continue;
    const read = bundle.read(name);
    if (name === GLOBAL_STEP && shape.length === 0) {
      metadata[GLOBAL_STEP] ??= String((read as ArrayLike<number | bigint>)[0]);
      continue;
    }
    const values = narrowed(read as ArrayLike<number> | BigInt64Array | BigUint64Array);
    if (values !== null) tensors[name] = { shape, values };
  }
  return { tensors, metadata };
}

/** Null: out of range. */
function narrowed(values: ArrayLike<number> | BigInt64Array | BigUint64Array): Float32Array | Int32Array | null {
  if (values instanceof Float32Array || values instanceof Int32Array) return values;
  if (values instanceof Float64Array) return Float32Array.from(values);
  const numbers = Array.from(values as ArrayLike<number | bigint>, Number);
  const result = Int32Array.from(numbers);
  return result.every((value, i) => value === numbers[i]) ? result : null;
}

function parseMetadata(texts: unknown): Record<string, string> {
  try {
    const [json] = texts as readonly Uint8Array[];
    const metadata = JSON.parse(new TextDecoder().decode(json)) as Record<string, unknown>;
    const isObject = typeof metadata === 'object' && !Array.isArray(metadata);
    if (isObject && Object.values(metadata).every((value) => typeof value === 'string'))
      return metadata as Record<string, string>;
  } catch {
    // As if they were no texts.
  }
  throw new TensorFileError(`has metadata (tensor '${METADATA_TENSOR}') that are no texts by name`);
}
