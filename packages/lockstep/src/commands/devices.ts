/** `lockstep devices`: what replicas can run on, as a table or as JSON. */
import { listDevices } from '@lockstep/distribute';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { registerBackend } from '../backend.js';
import { flagMain } from '../flag-main.js';

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    await registerBackend(flags);
    const devices = listDevices({ numCpus: flags.get('num_cpus') });
    if (flags.get('json')) process.stdout.write(`${JSON.stringify(devices)}\n`);
    else {
      process.stdout.write(`${'device'.padEnd(10)}${'type'.padEnd(8)}${'provider'.padEnd(12)}cores\n`);
      for (const { name, type, provider, cores } of devices) {
        process.stdout.write(`${name.padEnd(10)}${type.padEnd(8)}${provider.padEnd(12)}${cores.join(', ')}\n`);
      }
    }
    return 0;
  });
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep devices',
    summary: 'Lists the logical devices of this machine and the cores that each owns.',
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
