/** The exported model in the page: stock TensorFlow.js, on the graphics processor where it can, and what the file says of itself. */
import type { ModelDescription } from '@lockstep/official/utils/export/export';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-webgl';
import * as tf from '@tensorflow/tfjs-core';
import { type LayersModel, loadLayersModel } from '@tensorflow/tfjs-layers';

export interface Classifier {
  readonly description: ModelDescription;
  /** 'webgl' or 'cpu'. */
  readonly backend: string;
  /** To download, in bytes. */
  readonly bytes: number;
  /** @param pixels height × width × 3, 0 … 255 @returns probabilities by class, and milliseconds */
  classify(pixels: Float32Array): Promise<{ probabilities: Float32Array; ms: number }>;
}

/** @param wanted a backend's name; null: the fastest that works */
export async function loadClassifier(wanted: string | null, onProgress: (part: number) => void): Promise<Classifier> {
  const backend = await chooseBackend(wanted);
  let bytes = 0;
  const model = await loadLayersModel('./model.json', {
    onProgress,
    fetchFunc: async (...request) => {
      const response = await fetch(...(request as Parameters<typeof fetch>));
      // TensorFlow.js would take what a server says of a missing file for weights.
      if (!response.ok) throw new Error(`${response.url}: ${response.status} ${response.statusText}`);
      const body = await response.arrayBuffer();
      bytes += body.byteLength;
      // Read to its end: progress is then that of the bytes.
      return new Response(body, response);
    },
  });
  const description = model.getUserDefinedMetadata() as unknown as ModelDescription | undefined;
  if (!description?.preprocessing) throw new Error('model.json does not say how pictures are prepared for it.');
  const classify: Classifier['classify'] = async (pixels) => {
    const begin = performance.now();
    const probabilities = await predict(model, pixels, description.input.shape);
    return { probabilities, ms: performance.now() - begin };
  };
  // The first time compiles shaders: nobody's picture should wait for that.
  const [height, width, channels] = description.input.shape;
  await classify(new Float32Array(height * width * channels));
  return { description, backend, bytes, classify };
}

async function chooseBackend(wanted: string | null): Promise<string> {
  for (const name of wanted === null ? ['webgl', 'cpu'] : [wanted]) {
    if (await tf.setBackend(name).catch(() => false)) return name;
  }
  throw new Error(`TensorFlow.js has no backend ${wanted ?? 'here'} that works in this browser.`);
}

async function predict(model: LayersModel, pixels: Float32Array, shape: readonly number[]): Promise<Float32Array> {
  const output = tf.tidy(() => model.predict(tf.tensor(pixels, [1, ...shape])) as tf.Tensor);
  try {
    return (await output.data()) as Float32Array;
  } finally {
    output.dispose();
  }
}
