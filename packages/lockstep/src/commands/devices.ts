/** `lockstep devices`: what replicas can run on, as a table or as JSON. */
import { listDevices } from '@lockstep/distribute';
import { registerBackend, reportErrors } from '../backend.js';

const HELP = `Usage: lockstep devices [--num_cpus=N] [--backend=onednn|cpu] [--json]

Lists the logical devices of this machine and the cores that each would own with N replicas (default: one per physical core).
`;

export function main(argv: readonly string[]): Promise<number> {
  return reportErrors(async () => {
    if (argv.some((word) => word.startsWith('--help'))) {
      process.stdout.write(HELP);
      return 0;
    }
    await registerBackend(argv);
    const given = argv.find((word) => word.startsWith('--num_cpus='))?.split('=')[1];
    const numCpus = given === undefined ? -1 : Number(given);
    if (!Number.isInteger(numCpus) || numCpus === 0 || numCpus < -1) {
      process.stderr.write(`flag --num_cpus=${given}: not a positive whole number, nor -1\n`);
      return 2;
    }
    const devices = listDevices({ numCpus });
    if (argv.includes('--json')) process.stdout.write(`${JSON.stringify(devices)}\n`);
    else {
      process.stdout.write(`${'device'.padEnd(10)}${'type'.padEnd(8)}${'provider'.padEnd(12)}cores\n`);
      for (const { name, type, provider, cores } of devices) {
        process.stdout.write(`${name.padEnd(10)}${type.padEnd(8)}${provider.padEnd(12)}${cores.join(', ')}\n`);
      }
    }
    return 0;
  });
}
