/** Flags that say which network is measured: the same ones in every benchmark that takes them, and in `lockstep plan`. */
import type { FlagValues } from '@lockstep/official/utils/flags/core';

export function defineDataset(flags: FlagValues): void {
  flags.DEFINE_enum({
    name: 'dataset',
    default: 'cifar10',
    enumValues: ['cifar10', 'imagenet'],
    key: true,
    help: 'Which network is measured.',
  });
}

export function defineDtype(flags: FlagValues): void {
  flags.DEFINE_enum({
    name: 'dtype',
    shortName: 'dt',
    default: 'fp32',
    enumValues: ['fp32', 'bf16'],
    key: true,
    help: 'Element type of activations.',
  });
}
