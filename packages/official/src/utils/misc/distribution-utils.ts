/**
 * From flags to a distribution strategy: the Model Garden's `official/utils/misc/distribution_utils.py`.
 *
 * Names, order of checks and error texts are upstream's. What differs is said where it differs: `num_cpus` beside
 * `num_gpus`, `num_packs` honoured with every algorithm, contradictions refused instead of resolved silently, and a flag
 * without effect reported.
 */
import {
  type CrossDeviceOps,
  canonicalDeviceName,
  createCrossDeviceOps,
  HierarchicalCopyAllReduce,
  MirroredStrategy,
  NcclAllReduce,
  OneDeviceStrategy,
  physicalCores,
  runInScope,
  type Strategy,
} from '@lockstep/distribute';

/** tf.distribute.experimental.CollectiveCommunication. */
export type CollectiveCommunication = 'AUTO' | 'RING' | 'NCCL';

/** What a strategy over several workers is made from. */
export interface MultiWorkerStrategyOptions {
  readonly communication: CollectiveCommunication;
  readonly numWorkers: number;
  /** Devices of each worker: 'gpu:0', … or 'cpu:0', …. */
  readonly devices: readonly string[];
  /** Null: by size; 'auto': the strategy measures and chooses. */
  readonly numPacks: number | null | 'auto';
}

/** What a parameter server strategy is made from. */
export interface ParameterServerOptions {
  /** Devices of each worker. */
  readonly devices: readonly string[];
}

/** Strategies that other modules bring; see {@link getDistributionStrategy}. */
export interface StrategyFactories {
  readonly multiWorkerMirrored?: (options: MultiWorkerStrategyOptions) => Strategy;
  readonly parameterServer?: (options: ParameterServerOptions) => Strategy;
}

export interface DistributionStrategyOptions {
  /** `off`, `default`, `one_device`, `mirrored`, `multi_worker_mirrored` or `parameter_server`; case does not matter. Default `default`. */
  readonly distributionStrategy?: string;
  /** GPUs of this machine. Default 0. */
  readonly numGpus?: number;
  /** Ours: logical CPU devices, used when `numGpus` is 0; −1 is one per physical core. Default 1. */
  readonly numCpus?: number;
  /** Worker processes, this one included. Default 1. */
  readonly numWorkers?: number;
  /**
   * Mirrored: `nccl`, `hierarchical_copy`, and ours `sharded` and `reduction_to_one_device`; multi-worker: `ring`, `nccl`.
   * Default: the strategy chooses.
   */
  readonly allReduceAlg?: string | null;
  /** Packs that the gradients are cut into. Default 1; between workers by size. 'auto': between workers it is measured which; elsewhere 1. */
  readonly numPacks?: number | 'auto';
  /** Receives one line for each flag that has no effect here. */
  readonly onWarning?: (line: string) => void;
  /** Receives the strategy's own lines, such as the algorithm it chose. Default: standard error. */
  readonly log?: (line: string) => void;
  /** Strategies over several processes, where there are any. */
  readonly factories?: StrategyFactories;
}

const NAMES = ['off', 'default', 'one_device', 'mirrored', 'multi_worker_mirrored', 'parameter_server'];

/**
 * The strategy that the flags ask for, or null for none (`off`).
 *
 * @throws RangeError with upstream's texts; and where upstream would drop a flag silently although it matters.
 */
export function getDistributionStrategy(options: DistributionStrategyOptions = {}): Strategy | null {
  const { numGpus = 0, numWorkers = 1, allReduceAlg = null, factories = {} } = options;
  if (numGpus < 0) throw new RangeError('`num_gpus` can not be negative.');
  const numCpus = resolveNumCpus(options.numCpus ?? 1);
  const name = (options.distributionStrategy ?? 'default').toLowerCase();
  const devices = deviceNames(numGpus, numCpus);
  const numPacks = options.numPacks === 'auto' ? packsHere(allReduceAlg, devices.length) : (options.numPacks ?? 1);
  const warn = warner({ ...options, numPacks });

  if (name === 'off') {
    if (numGpus > 1 || numWorkers > 1) {
      throw new RangeError(
        `When ${numGpus} GPUs and  ${numWorkers} workers are specified, distribution_strategy flag cannot be set to 'off'.`,
      );
    }
    if (numGpus === 0 && numCpus > 1) {
      throw new RangeError(
        `When ${numCpus} CPU devices are specified, distribution_strategy flag cannot be set to 'off'.\n` +
          'help: --distribution_strategy=mirrored trains on all of them, --num_cpus=1 on one.',
      );
    }
    warn.withoutReduction("distribution_strategy 'off'");
    return null;
  }

  if (name === 'multi_worker_mirrored' || (numWorkers > 1 && (name === 'default' || name === 'mirrored'))) {
    const communication = collectiveCommunication(allReduceAlg);
    if (!factories.multiWorkerMirrored) throw new Error(missingEngine('MultiWorkerMirroredStrategy', numWorkers));
    return factories.multiWorkerMirrored({ communication, numWorkers, devices, numPacks: options.numPacks ?? null });
  }
  // Upstream lets num_workers override every name, even an unknown one. Here a contradiction is an error.
  if (numWorkers > 1 && NAMES.includes(name) && name !== 'parameter_server') {
    throw new RangeError(
      `distribution_strategy '${name}' uses one process, but num_workers is ${numWorkers}.\n` +
        'help: --distribution_strategy=multi_worker_mirrored for several workers, or --num_workers=1.',
    );
  }

  if (name === 'one_device' || (name === 'default' && devices.length <= 1)) {
    if (devices.length > 1) throw new RangeError('`OneDeviceStrategy` can not be used for more than one device.');
    warn.withoutReduction('one device');
    return new OneDeviceStrategy(devices[0]);
  }
  if (name === 'mirrored' || name === 'default') {
    const crossDeviceOps = mirroredCrossDeviceOps(allReduceAlg, numPacks);
    if (devices.length === 1 && numPacks !== 1) warn.line(`num_packs=${numPacks} has no effect with one replica.`);
    return new MirroredStrategy({
      devices,
      numPacks,
      ...(crossDeviceOps && { crossDeviceOps }),
      ...(options.log && { log: options.log }),
    });
  }
  if (name === 'parameter_server') {
    warn.withoutReduction("distribution_strategy 'parameter_server'");
    if (!factories.parameterServer) throw new Error(missingEngine('ParameterServerStrategy', numWorkers));
    return factories.parameterServer({ devices });
  }
  throw new RangeError(
    `Unrecognized Distribution Strategy: ${repr(name)}\nhelp: --distribution_strategy is one of ${NAMES.join(', ')}.`,
  );
}

/** −1 is one per physical core. */
function resolveNumCpus(numCpus: number): number {
  if (numCpus === -1) return physicalCores().length;
  if (!Number.isInteger(numCpus) || numCpus < 1) {
    throw new RangeError(
      `\`num_cpus\` must be a positive number of logical CPU devices, or -1 for one per physical core; got ${numCpus}.`,
    );
  }
  return numCpus;
}

function deviceNames(numGpus: number, numCpus: number): string[] {
  const [type, count] = numGpus > 0 ? (['gpu', numGpus] as const) : (['cpu', numCpus] as const);
  return Array.from({ length: count }, (_, i) => canonicalDeviceName(`${type}:${i}`));
}

function missingEngine(strategy: string, numWorkers: number): string {
  return (
    `${strategy} (num_workers=${numWorkers}) needs the multi-worker engine, which is not loaded.\n` +
    'help: train on one machine with --num_workers=1 --distribution_strategy=mirrored and --num_cpus or --num_gpus.'
  );
}

/**
 * What 'auto' is between the replicas of one process: one pack, which is as good as many where each replica sums a part of everything; and one for
 * each replica where a pack is summed by two of them.
 */
function packsHere(allReduceAlg: string | null, replicas: number): number {
  return allReduceAlg === 'hierarchical_copy' ? replicas : 1;
}

/** Reports flags that the chosen combination does not use. */
function warner(options: DistributionStrategyOptions & { readonly numPacks: number }) {
  const line = (text: string) => options.onWarning?.(text);
  const { numGpus = 0, numCpus, allReduceAlg, numPacks } = options;
  if (numGpus > 0 && numCpus !== undefined && numCpus !== 1) {
    line(`num_cpus=${numCpus} has no effect with num_gpus=${numGpus}: replicas run on the GPUs.`);
  }
  return {
    line,
    withoutReduction(situation: string): void {
      if (allReduceAlg != null) line(`all_reduce_alg=${allReduceAlg} has no effect with ${situation}.`);
      if (numPacks !== 1) line(`num_packs=${numPacks} has no effect with ${situation}.`);
    },
  };
}

/**
 * Cross-device ops for `mirrored`; null lets the strategy choose.
 * @throws RangeError for any other algorithm, with upstream's text; for a number of packs below 1.
 */
export function mirroredCrossDeviceOps(
  allReduceAlg: string | null | undefined,
  numPacks: number,
): CrossDeviceOps | null {
  switch (allReduceAlg ?? null) {
    case null:
      return null;
    case 'nccl':
      return new NcclAllReduce(numPacks);
    case 'hierarchical_copy':
      return new HierarchicalCopyAllReduce(numPacks);
    case 'sharded':
    case 'reduction_to_one_device':
      return createCrossDeviceOps(allReduceAlg as string, numPacks);
    default:
      throw new RangeError(
        "When used with `mirrored`, valid values for all_reduce_alg are ['nccl', 'hierarchical_copy'].  " +
          `Supplied value: ${allReduceAlg}\nhelp: here also 'sharded' (chosen when none is named) and 'reduction_to_one_device'.`,
      );
  }
}

/**
 * How workers communicate, for `multi_worker_mirrored`.
 * @throws RangeError for any other algorithm, with upstream's text.
 */
export function collectiveCommunication(allReduceAlg: string | null | undefined): CollectiveCommunication {
  switch (allReduceAlg ?? null) {
    case null:
      return 'AUTO';
    case 'ring':
      return 'RING';
    case 'nccl':
      return 'NCCL';
    default:
      throw new RangeError(
        "When used with `multi_worker_mirrored`, valid values for all_reduce_alg are ['ring', 'nccl'].  " +
          `Supplied value: ${allReduceAlg}`,
      );
  }
}

/**
 * Images per replica of a global batch; `numDevices` ≤ 1 leaves it unchanged.
 *
 * @param noun 'GPUs' in upstream's text; 'CPU devices' for ours.
 * @throws RangeError with upstream's text if the batch is not a multiple of the number of devices.
 */
export function perReplicaBatchSize(batchSize: number, numDevices: number, noun = 'GPUs'): number {
  if (numDevices <= 1) return batchSize;
  const remainder = batchSize % numDevices;
  if (remainder !== 0) {
    // Upstream proposes 0 for a batch smaller than the number of devices.
    const proposal = Math.max(batchSize - remainder, numDevices);
    throw new RangeError(
      `When running with multiple ${noun}, batch size must be a multiple of the number of available ${noun}. ` +
        `Found ${numDevices} ${noun} with a batch size of ${batchSize}; try --batch_size=${proposal} instead.`,
    );
  }
  return batchSize / numDevices;
}

/** Runs a function with a strategy as the current one. */
export type StrategyScope = <Result>(body: () => Result) => Result;

/** The strategy's scope, in which `getStrategy()` of @lockstep/distribute returns it; for null a scope that does nothing. */
export function getStrategyScope(strategy: Strategy | null): StrategyScope {
  return (body) => (strategy ? runInScope(strategy, body) : body());
}

/** Python's repr of a string, as upstream's message has it. */
function repr(text: string): string {
  return text.includes("'") && !text.includes('"') ? `"${text}"` : `'${text.replaceAll("'", "\\'")}'`;
}
