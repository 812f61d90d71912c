/** Every optimizer's loop by the name under which assembly/kernels.ts exports its twin. */
import { adam, adamw } from './adam.js';
import { momentum, nesterov } from './momentum.js';
import { rmsprop, rmspropCentered } from './rmsprop.js';
import { sgd } from './sgd.js';

export const updates = { sgd, momentum, nesterov, adam, adamw, rmsprop, rmspropCentered } as const;

export type UpdateName = keyof typeof updates;
