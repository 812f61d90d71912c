/** `lockstep imagenet`: the Model Garden's imagenet_main on the devices of this machine. */
import { main as imagenet } from '@lockstep/official/resnet/imagenet-main';
import { defineImagenetFlags } from '@lockstep/official/resnet/resnet-flags';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { registerBackend, reportErrors } from '../backend.js';
import { boardBeside } from '../board/beside.js';

export function main(argv: readonly string[]): Promise<number> {
  return reportErrors(() => imagenet(argv, { prepare: registerBackend, board: boardBeside }));
}

export function defineFlags(): FlagValues {
  return defineImagenetFlags(new FlagValues());
}
