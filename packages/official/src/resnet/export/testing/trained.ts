/** Test support: a checkpoint of a network whose every number counts, and an export as stock TensorFlow.js loads it. Not part of the package. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { io, tensor as makeTensor, type Tensor, type Tensor4D, tidy } from '@tensorflow/tfjs-core';
import { type LayersModel, loadLayersModel } from '@tensorflow/tfjs-layers';
import type { StoredTensor, TensorFile } from '../../../utils/checkpoint/safetensors.js';
import { Philox } from '../../../utils/random/philox.js';
import { type RunState, runCheckpoints, toTensorFile } from '../../replica/run-state.js';
import { Model, type ResNetPlan, upstreamName } from '../../resnet-model.js';

/** The model with scales, offsets and statistics that are not the initial ones, some scales negative. */
export function disturbedModel(plan: ResNetPlan): Model {
  const model = new Model(plan, 5);
  const random = new Philox(11);
  for (const variable of model.variables) {
    const isScale = variable.name.includes('gamma');
    const values = variable.dataSync().map((value) => value + (isScale ? 0.4 : 0.05) * random.normal());
    if (isScale) values[0] = -0.7;
    const tensor = makeTensor(values as Float32Array, variable.shape);
    variable.assign(tensor);
    tensor.dispose();
  }
  for (const { name, offset, length } of model.statisticSegments) {
    const isVariance = name.endsWith('moving_variance');
    for (let i = 0; i < length; i++) {
      model.statistics[offset + i] = isVariance ? 0.5 + random.uniform() : 0.3 * random.normal();
    }
  }
  return model;
}

/** What a checkpoint of a run with this model holds. */
export function checkpointOf(model: Model, pictures?: RunState['pictures']): TensorFile {
  let offset = 0;
  const segments = model.variables.map(({ name, size, shape }) => {
    offset += size;
    return { name, offset: offset - size, length: size, shape, decay: false };
  });
  const weights = new Float32Array(offset);
  for (const [i, variable] of model.variables.entries()) weights.set(variable.dataSync(), segments[i]?.offset);
  const trained = { segments, weights, slots: { momentum: weights.map((value) => 2 * value) } };
  return toTensorFile(
    {
      position: { globalStep: 12, epochs: 1, callEpochs: 0, step: 0, batchSize: 8 },
      seed: 1,
      fineTune: false,
      model: { size: model.plan.resnetSize, version: model.plan.resnetVersion },
      scalars: { updates: 12 },
      ...(pictures && { pictures }),
    },
    {
      trained: trained as never,
      frozen: { segments: [], values: new Float32Array(0) },
      statistics: { segments: model.statisticSegments, values: model.statistics },
    },
  );
}

/** Writes it as a run would. @returns its path */
export function saveCheckpoint(folder: string, model: Model, pictures?: RunState['pictures']): string {
  return runCheckpoints(folder).save(12, checkpointOf(model, pictures));
}

/** By upstream's name. */
export function tensorsOf(model: Model): (name: string, shape: readonly number[]) => Float32Array {
  const { tensors } = checkpointOf(model);
  return (name) => (tensors[upstreamName(`resnet_model/${name}`)] as StoredTensor).values as Float32Array;
}

/** As `tf.loadLayersModel` takes it from a web server. */
export async function loadExport(modelJson: string): Promise<LayersModel> {
  const json = JSON.parse(readFileSync(modelJson, 'utf8')) as io.ModelJSON;
  return await loadLayersModel({
    load: () =>
      io.getModelArtifactsForJSON(json, async (manifest) => {
        const bytes = manifest.flatMap(({ paths }) =>
          paths.map((path) => readFileSync(join(dirname(modelJson), path))),
        );
        return [io.getWeightSpecs(manifest), new Uint8Array(Buffer.concat(bytes)).buffer];
      }),
  });
}

/** Probabilities of pictures (0 … 255) by an exported model. */
export function predict(model: LayersModel, pixels: Float32Array, shape: readonly number[]): Float32Array {
  return tidy(() => (model.predict(makeTensor(pixels, [...shape])) as Tensor).dataSync()) as Float32Array;
}

/** Scales the dense layer so that probabilities of these pictures are none of 0 and 1, whatever the size of what reaches it. */
export function calibrate(model: Model, images: Tensor4D): void {
  tidy(() => {
    const logits = model.call(images, false).dataSync() as Float32Array;
    const largest = logits.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const variable of model.variables.slice(-2)) {
      variable.assign(
        makeTensor(variable.dataSync().map((value) => (2 * value) / largest) as Float32Array, variable.shape),
      );
    }
  });
}
