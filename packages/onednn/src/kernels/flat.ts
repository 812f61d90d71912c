/** The kernels that see a tensor as elements in a row, or as strides over them, and not as a layer's activations: one list. */
import { arrayKernels } from './arrays.js';
import { binaryKernels } from './binary.js';
import { castKernels } from './cast.js';
import { dropoutKernels } from './dropout-mask.js';
import { gruKernels } from './gru-cell.js';
import { indexingKernels } from './indexing.js';
import type { Kernel } from './kernel.js';
import { lstmKernels } from './lstm-cell.js';
import { optimizerKernels } from './optimizer-steps.js';
import { reductionKernels } from './reduction.js';
import { resizeKernels } from './resize.js';
import { simpleRnnKernels } from './simple-rnn-cell.js';
import { softmaxKernels } from './softmax.js';
import { unaryKernels } from './unary.js';

export const flatKernels: readonly Kernel[] = [
  ...castKernels,
  ...dropoutKernels,
  ...unaryKernels,
  ...binaryKernels,
  ...arrayKernels,
  ...reductionKernels,
  ...softmaxKernels,
  ...lstmKernels,
  ...gruKernels,
  ...simpleRnnKernels,
  ...indexingKernels,
  ...resizeKernels,
  ...optimizerKernels,
];
