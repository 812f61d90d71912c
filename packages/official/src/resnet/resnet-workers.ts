/**
 * What a ResNet run over several processes needs beside the strategy: how the strategies are made from flags, and what all
 * processes have to agree on before anything runs. It starts nothing and trains nothing.
 */
import { readFileSync } from 'node:fs';
import {
  type Facts,
  launchedProcess,
  type MpiOptions,
  MultiWorkerMirroredStrategy,
  ParameterServerStrategy,
} from '@lockstep/distribute';
import type { FlagsObject, FlagValues } from '../utils/flags/core.js';
import type { Log } from '../utils/logs/log.js';
import type { StrategyFactories } from '../utils/misc/distribution-utils.js';
import type { ResNetPlan } from './resnet-model.js';

const SAVING_SECONDS = 5;

/**
 * What all workers must have alike.
 * @param data Numbers of images, which differ when somebody's data set is incomplete.
 */
export function factsOf(flags: FlagValues, plan: ResNetPlan, data: Readonly<Record<string, number>>): Facts {
  const values = flags
    .definitions()
    .filter(({ local }) => !local)
    .map(({ name }) => [name, flags.get(name as never) as unknown] as const);
  return { version: version(), flags: Object.fromEntries(values), model: { ...plan }, data };
}

/** The strategies over several processes, as the flags want them. */
export function strategyFactories(flagsObj: FlagsObject, log: Log, facts: () => Facts): StrategyFactories {
  return {
    multiWorkerMirrored: ({ communication, devices, numPacks }) =>
      new MultiWorkerMirroredStrategy({
        communication,
        devices,
        ...(numPacks !== null && { numPacks }),
        gradientDtype: flagsObj.gradient_dtype,
        facts,
        mpi: mpiOptions(flagsObj),
        log: (line) => log.info(line),
      }),
    parameterServer: ({ devices }) =>
      new ParameterServerStrategy({
        devices,
        // Servers have no images to count, and a worker with fewer than the others holds nobody up.
        facts: () => ({ ...facts(), data: null }),
        mpi: mpiOptions(flagsObj),
        // The screen is the chief's; a server has a line to say at the end.
        ...((launchedProcess()?.rank ?? 0) === 0 && { log: (line: string) => log.info(line) }),
      }),
  };
}

/** Seconds that mpirun leaves its processes between Ctrl-C and the end, where that is too short to save: a remark, or null. */
export function remarkOnGrace(environment: NodeJS.ProcessEnv = process.env): string | null {
  if (launchedProcess(environment)?.launcher !== 'mpirun') return null;
  // `lockstep launch` waits as long as saving takes.
  if (environment.LOCKSTEP_STATUS_MARK) return null;
  const seconds = Number(environment.OMPI_MCA_odls_base_sigkill_timeout ?? 1);
  if (seconds >= SAVING_SECONDS) return null;
  return (
    `After Ctrl-C mpirun leaves its processes ${seconds} s, perhaps too little to finish a step and save. ` +
    '`mpirun --mca odls_base_sigkill_timeout 20 …` leaves them more; `lockstep launch` waits for them.'
  );
}

function mpiOptions(flagsObj: FlagsObject): MpiOptions {
  return {
    warningSeconds: flagsObj.worker_late_secs,
    silenceSeconds: flagsObj.worker_lost_secs,
    timeoutSeconds: flagsObj.worker_timeout_secs,
    startSeconds: flagsObj.worker_start_secs,
  };
}

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
