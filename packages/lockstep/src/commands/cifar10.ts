/** `lockstep cifar10`: the Model Garden's cifar10_main on the devices of this machine. */
import { main as cifar10 } from '@lockstep/official/resnet/cifar10-main';
import { defineCifarFlags } from '@lockstep/official/resnet/resnet-flags';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { registerBackend, reportErrors } from '../backend.js';
import { boardBeside } from '../board/beside.js';

export function main(argv: readonly string[]): Promise<number> {
  return reportErrors(() => cifar10(argv, { prepare: registerBackend, board: boardBeside }));
}

export function defineFlags(): FlagValues {
  return defineCifarFlags(new FlagValues());
}
