/** `lockstep keras-cifar10`: the Model Garden's keras_cifar_main, `model.fit` on the devices of this machine. */
import { defineKerasCifarFlags, main as keras } from '@lockstep/official/resnet/keras/keras-cifar-main';
import type { FlagValues } from '@lockstep/official/utils/flags/core';
import { registerBackend, reportErrors } from '../backend.js';

export function main(argv: readonly string[]): Promise<number> {
  return reportErrors(() => keras(argv, { prepare: registerBackend }));
}

export function defineFlags(): FlagValues {
  return defineKerasCifarFlags();
}
