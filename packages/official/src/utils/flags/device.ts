/*
 * TPU flags: upstream's `official/utils/flags/_device.py`. The ResNet mains do not define them, and no device provider
 * offers TPUs; they are here for programs that share their flags with the Model Garden.
 */
import type { FlagValues } from './flag-values.js';

declare module './flag-values.js' {
  interface FlagTypes {
    tpu: string | null;
    tpu_zone: string | null;
    tpu_gcp_project: string | null;
    num_tpu_shards: number;
  }
}

/** Which device flags to define; on unless switched off. */
export interface DeviceSwitches {
  tpu?: boolean;
}

const group = 'Device';

/**
 * Defines the TPU flags.
 *
 * @returns names of the key flags among them: `tpu`.
 */
export function defineDevice(flags: FlagValues, switches: DeviceSwitches = {}): string[] {
  if (!(switches.tpu ?? true)) return [];
  flags.DEFINE_string({
    name: 'tpu',
    default: null,
    group,
    help: 'Name or address of a Cloud TPU. No device provider offers TPUs; a program decides what the flag means to it.',
  });
  flags.DEFINE_string({
    name: 'tpu_zone',
    default: null,
    group,
    help: 'Zone of the TPU, where its name is not enough.',
  });
  flags.DEFINE_string({ name: 'tpu_gcp_project', default: null, group, help: 'Google Cloud project of the TPU.' });
  flags.DEFINE_integer({ name: 'num_tpu_shards', default: 8, lowerBound: 1, group, help: 'TPU cores in use.' });
  return ['tpu'];
}

/**
 * Adds a check: where --tpu is set, each named flag must hold a `gs://` path, because a TPU reads no local files.
 *
 * @param flagNames names of flags that hold paths.
 * @param logError gets one line for each flag that fails.
 */
export function requireCloudStorage(
  flags: FlagValues,
  flagNames: readonly string[],
  logError: (line: string) => void = () => {},
): void {
  flags.registerMultiFlagsValidator(
    ['tpu', ...flagNames],
    (values) => {
      if (values.tpu === null) return true;
      const wrong = flagNames.filter((name) => !String(values[name] ?? '').startsWith('gs://'));
      for (const name of wrong) logError(`${name} must be a GCS path.`);
      return wrong.length === 0;
    },
    `TPU requires GCS path for ${flagNames.join(', ')}`,
  );
}
