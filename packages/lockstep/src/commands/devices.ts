/** `lockstep devices`: what replicas can run on, as a table or as JSON. */
import { type DeviceDescription, describeGpus, listDevices } from '@lockstep/distribute';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { offerGpus, registerBackend } from '../backend.js';
import { flagMain } from '../flag-main.js';

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    await registerBackend(flags);
    await offerGpus();
    const devices = listDevices({ numCpus: flags.get('num_cpus') });
    if (flags.get('json')) process.stdout.write(`${JSON.stringify(devices)}\n`);
    else {
      process.stdout.write(`${'device'.padEnd(10)}${'type'.padEnd(8)}${'provider'.padEnd(12)}cores\n`);
      for (const device of devices) {
        const { name, type, provider } = device;
        process.stdout.write(`${name.padEnd(10)}${type.padEnd(8)}${provider.padEnd(12)}${detailsOf(device)}\n`);
      }
      if (!devices.some(({ type }) => type === 'GPU')) process.stdout.write(`\nGPUs: ${describeGpus()}\n`);
    }
    return 0;
  });
}

/** A CPU device's cores; what a GPU is. */
function detailsOf({ cores, label = '', memoryBytes, facts = {} }: DeviceDescription): string {
  if (cores.length > 0) return cores.join(', ');
  const { vendor, architecture, api, software, maxBufferBytes, features = [] } = facts;
  const mebibytes = (bytes: number) => `${Math.floor(bytes / 2 ** 20).toLocaleString('en')} MiB`;
  const parts = [
    ...[vendor, architecture, api].filter((part) => part),
    ...(software ? ['computed by the CPU'] : []),
    ...(memoryBytes !== undefined ? [`${mebibytes(memoryBytes)} of memory`] : []),
    ...(maxBufferBytes !== undefined ? [`tensors up to ${mebibytes(maxBufferBytes)}`] : []),
    ...USEFUL.filter((feature) => features.includes(feature)),
  ];
  return `${label}${parts.length > 0 ? ` (${parts.join(', ')})` : ''}`;
}

/** Features that a person may look for; `--json` has them all. */
const USEFUL = ['shader-f16', 'subgroups', 'timestamp-query'];

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep devices',
    summary: 'Lists the devices of this machine: GPUs, and logical CPU devices with the cores that each owns.',
  });
  const key = true;
  flags.DEFINE_integer({
    name: 'num_cpus',
    shortName: 'nc',
    default: -1,
    lowerBound: -1,
    upperBound: 1024,
    key,
    help: 'CPU devices that share the cores; -1 makes one per physical core.',
  });
  flags.registerValidator('num_cpus', (count) => count !== 0, 'num_cpus should be a number of devices, or -1');
  flags.DEFINE_enum({ name: 'backend', default: 'onednn', enumValues: ['onednn', 'cpu'], key, help: 'What computes.' });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one JSON array.' });
  return flags;
}
