/** `lockstep keras-imagenet`: the Model Garden's keras_imagenet_main, `model.fit` on the devices of this machine. */
import { defineKerasImagenetFlags, main as keras } from '@lockstep/official/resnet/keras/keras-imagenet-main';
import type { FlagValues } from '@lockstep/official/utils/flags/core';
import { registerBackend, reportErrors } from '../backend.js';

export function main(argv: readonly string[]): Promise<number> {
  return reportErrors(() => keras(argv, { prepare: registerBackend }));
}

export function defineFlags(): FlagValues {
  return defineKerasImagenetFlags();
}
