/** The kernels that see a tensor as elements in a row, or as strides over them, and not as a layer's activations: one list. */
import { binaryKernels } from './binary.js';
import { castKernels } from './cast.js';
import type { Kernel } from './kernel.js';
import { optimizerKernels } from './optimizer-steps.js';
import { unaryKernels } from './unary.js';

export const flatKernels: readonly Kernel[] = [...castKernels, ...unaryKernels, ...binaryKernels, ...optimizerKernels];
