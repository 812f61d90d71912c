/*
 * The flag of image models: upstream's `official/utils/flags/_misc.py`.
 */
import type { FlagValues } from './flag-values.js';

declare module './flag-values.js' {
  interface FlagTypes {
    data_format: DataFormat | null;
  }
}

/** Order of an image batch's dimensions: NCHW or NHWC. */
export type DataFormat = 'channels_first' | 'channels_last';

/** Which image flags to define; on unless switched off. */
export interface ImageSwitches {
  data_format?: boolean;
}

/**
 * Defines the image flag.
 *
 * @returns names of the key flags: `data_format`.
 */
export function defineImage(flags: FlagValues, switches: ImageSwitches = {}): string[] {
  if (!(switches.data_format ?? true)) return [];
  flags.DEFINE_enum({
    name: 'data_format',
    shortName: 'df',
    default: null,
    enumValues: ['channels_first', 'channels_last'],
    group: 'Image',
    help: 'Order of the dimensions of image batches. Without the flag channels_last, the order of CPU devices.',
  });
  return ['data_format'];
}
