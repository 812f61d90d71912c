/**
 * A trained network as those see it who write it for other programs, and what they write: a model is layers with numbers, some words about
 * itself, and the variables that it was trained as. An exporter needs no run, no thread and no backend: it makes files of these. Another
 * format is a file beside tfjs-layers-model.ts and an entry in formats.ts.
 */
import type { StoredTensor } from '../checkpoint/safetensors.js';

/** A layer that every TensorFlow.js has. */
export interface Layer {
  /** Keras' name of its class: 'Conv2D'. */
  readonly className: string;
  readonly name: string;
  /** Keras' configuration, names in snake_case; `name` is added. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Names of the layers whose outputs it takes; none: it is the model's input. */
  readonly inputs: readonly string[];
  /** By Keras' name of the weight: 'kernel'. */
  readonly weights: Readonly<Record<string, StoredTensor>>;
}

/** What a program has to know in order to use a model: it is written into the model, under `userDefinedMetadata` or as text. */
export interface ModelDescription {
  /** 'ResNet-20 v1'. */
  readonly model: string;
  readonly dataset: string | null;
  /** Names of the classes, in the order of the probabilities; null where nobody knows them. */
  readonly labels: readonly string[] | null;
  readonly input: {
    /** [height, width, channels], channels last; a batch of them is what the model takes. */
    readonly shape: readonly [number, number, number];
    readonly channels: 'RGB';
    /** Of the numbers: a pixel's bytes, as f32. */
    readonly range: readonly [0, 255];
  };
  readonly output: { readonly classes: number; readonly is: 'probabilities' };
  readonly preprocessing: Preprocessing;
  readonly batchNorm: 'folded' | 'folded in part' | 'layers';
  readonly quantization: Quantization;
  /** Steps that it was trained for. */
  readonly globalStep: number;
}

/** How pictures become what the network computes with: some of it before the model, the rest is its first layers. */
export interface Preprocessing {
  /**
   * Of a picture of another size. 'central crop': its shorter side becomes `shorterSide`, the centre is the input; pixels are interpolated
   * as TensorFlow's resize_bilinear does. 'none': the data set's pictures have the input's size.
   */
  readonly resize: { readonly kind: 'central crop'; readonly shorterSide: number } | { readonly kind: 'none' };
  /** In the model: minus the mean colour, or each picture to mean 0 and deviation 1. */
  readonly inModel:
    | { readonly kind: 'subtract means'; readonly means: readonly number[] }
    | { readonly kind: 'standardize' };
}

export interface InferenceModel {
  /** Each after those whose outputs it takes. */
  readonly layers: readonly Layer[];
  readonly description: ModelDescription;
  /** What it was trained as, nothing folded and nothing of an optimizer. */
  readonly variables: Readonly<Record<string, StoredTensor>>;
}

/** How weights are stored: as they are, or in fewer bits. Whoever loads the model computes in f32 all the same. */
export const QUANTIZATIONS = ['none', 'float16', 'uint8'] as const;
export type Quantization = (typeof QUANTIZATIONS)[number];

/** A file of an export. */
export interface ExportFile {
  readonly name: string;
  readonly pieces: Iterable<Uint8Array>;
}

export interface ModelExporter {
  readonly format: 'tfjs' | 'safetensors';
  /** The file that a program is told to load. */
  readonly entry: string;
  /** How weights may be stored. */
  readonly quantizations: readonly Quantization[];
  files(model: InferenceModel): readonly ExportFile[];
}
