/**
 * What an official ResNet's checkpoint is a model of: its network, by size, version and the shapes of its variables; its weights; what its
 * classes are called. No run, no flag of one and no backend is needed: TensorFlow's own checkpoints say less, and are read as well.
 */
import { CIFAR10_NAMES } from '../../data/cifar10-names.js';
import { CHANNEL_MEANS, centralSide } from '../../data/imagenet-preprocessing.js';
import type { StoredTensor, TensorFile } from '../../utils/checkpoint/safetensors.js';
import type { InferenceModel, Preprocessing, Quantization } from '../../utils/export/export.js';
import { ExportError } from '../../utils/export/export-folder.js';
import { checkedState, type ReadFile, type RunState, readRun, variableValues } from '../replica/run-state.js';
import { cifar10Plan, imagenetPlan, type ResNetPlan } from '../resnet-model.js';
import { resnetLayers } from './resnet-layers.js';

const SCOPE = 'resnet_model/';
const IMAGENET_SIZE = 224;
/** Of the first kernel: upstream's two networks differ there. */
const IMAGENET_KERNEL = 7;

/** What a checkpoint may not say, or not rightly. */
export interface ModelFacts {
  /** Names of the classes. Default: the checkpoint's; null where it has none. */
  readonly labels?: readonly string[] | null;
  /** Height and width of the pictures. Default: the checkpoint's, or ImageNet's 224. */
  readonly imageSize?: number | null;
  readonly quantization?: Quantization;
}

/** @param where a checkpoint of any format, or a folder, of which the newest counts @throws CheckpointError, ExportError */
export function readTrainedResnet(where: string, facts: ModelFacts = {}): InferenceModel & { readonly path: string } {
  const file = readRun(where);
  const { position, model, isForeign, pictures } = checkedState(file);
  const plan = planOf(file, model, facts.imageSize ?? pictures?.size ?? IMAGENET_SIZE);
  const isImagenet = plan.kernelSize === IMAGENET_KERNEL;
  const quantization = facts.quantization ?? 'none';
  // Folded kernels have channels of very different sizes, for which the levels of one byte are too few.
  const fold = quantization !== 'uint8';
  const preprocessing = isImagenet ? imagenetPreprocessing(plan) : CIFAR10_PREPROCESSING;
  return {
    path: file.path,
    layers: resnetLayers({
      plan,
      preprocessing: preprocessing.inModel,
      fold,
      tensors: (name, shape) => finiteValues(file, SCOPE + name, shape),
    }),
    variables: variablesOf(file),
    description: {
      model: `ResNet-${model.size} v${model.version}`,
      dataset: pictures?.dataset ?? (isImagenet ? null : 'CIFAR-10'),
      labels: labelsFor(
        file,
        plan,
        // TensorFlow's own of such a network are of nothing else.
        facts.labels ?? pictures?.classNames ?? (isForeign && !isImagenet ? CIFAR10_NAMES : null),
      ),
      input: { shape: plan.imageShape, channels: 'RGB', range: [0, 255] },
      output: { classes: plan.numClasses, is: 'probabilities' },
      preprocessing,
      batchNorm: !fold ? 'layers' : model.version === 1 ? 'folded' : 'folded in part',
      quantization,
      globalStep: position.globalStep,
    },
  };
}

const CIFAR10_PREPROCESSING: Preprocessing = { resize: { kind: 'none' }, inModel: { kind: 'standardize' } };

function imagenetPreprocessing({ imageShape: [height, width] }: ResNetPlan): Preprocessing {
  return {
    resize: { kind: 'central crop', shorterSide: centralSide({ height, width }) },
    inModel: { kind: 'subtract means', means: CHANNEL_MEANS },
  };
}

function planOf(file: ReadFile, { size, version }: RunState['model'], imageSize: number): ResNetPlan {
  const shapeOf = (name: string): readonly number[] => {
    const full = SCOPE + name;
    const tensor = Object.hasOwn(file.tensors, full) ? file.tensors[full] : undefined;
    if (tensor) return tensor.shape;
    throw new ExportError(`Checkpoint ${file.path} has no ${full}`, "choose a checkpoint of the official ResNet's.");
  };
  const [kernelSize] = shapeOf('conv2d/kernel');
  const [numClasses = 0] = shapeOf('dense/bias');
  return kernelSize === IMAGENET_KERNEL
    ? imagenetPlan(size, version, { numClasses, imageSize })
    : { ...cifar10Plan(size, version), numClasses };
}

function labelsFor({ path }: ReadFile, { numClasses }: ResNetPlan, labels: readonly string[] | null) {
  if (labels === null || labels.length === numClasses) return labels;
  throw new ExportError(
    `Checkpoint ${path} has ${numClasses} classes, and there are names for ${labels.length}`,
    '--data_dir names the folder of the data that it was trained on.',
  );
}

/** @throws CheckpointError if it is not there so; ExportError if the network cannot compute anything with it */
function finiteValues(file: ReadFile, name: string, shape: readonly number[]): Float32Array {
  const values = variableValues(file, name, shape, '.\nhelp: choose another checkpoint.');
  const odd = values.find((value) => !Number.isFinite(value));
  if (odd === undefined) return values;
  throw new ExportError(`Checkpoint ${file.path} has ${odd} in ${name}: it is no model`, 'export an earlier one.');
}

/** Weights and moving statistics, and no optimizer's slots. */
function variablesOf({ tensors }: TensorFile): Record<string, StoredTensor> {
  const isVariable = (name: string) => /\/(kernel|bias|gamma|beta|moving_mean|moving_variance)$/.test(name);
  return Object.fromEntries(Object.entries(tensors).filter(([name]) => name.startsWith(SCOPE) && isVariable(name)));
}
