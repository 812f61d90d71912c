/** Every row of upstream's decision table with its exact text, and what is ours: num_cpus, packs, contradictions. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  getStrategy,
  MirroredStrategy,
  OneDeviceStrategy,
  physicalCores,
  registerDeviceProvider,
  type Strategy,
  unregisterDeviceProvider,
} from '@lockstep/distribute';
import {
  collectiveCommunication,
  type DistributionStrategyOptions,
  getDistributionStrategy,
  getStrategyScope,
  type MultiWorkerStrategyOptions,
  mirroredCrossDeviceOps,
  perReplicaBatchSize,
} from './distribution-utils.js';

const quiet = { log: () => {} };

/** Runs `body` on a machine that has eight GPUs, as far as names go; nothing is trained on them. */
function withGpus<T>(body: () => T): T {
  registerDeviceProvider({
    name: 'pretended',
    priority: 1,
    backendModule: 'file:///nowhere.js',
    devices: () => Array.from({ length: 8 }, (_, index) => ({ type: 'GPU', index })),
  });
  try {
    return body();
  } finally {
    unregisterDeviceProvider('pretended');
  }
}

function names(strategy: Strategy | null): string[] {
  return (strategy?.devices ?? []).map((device) => device.name);
}

function warningsOf(options: DistributionStrategyOptions): string[] {
  const warnings: string[] = [];
  try {
    getDistributionStrategy({ ...quiet, onWarning: (line) => warnings.push(line), ...options });
  } catch {
    // What is thrown is another test's business.
  }
  return warnings;
}

const NAMES_HELP =
  'help: --distribution_strategy is one of off, default, one_device, mirrored, multi_worker_mirrored, parameter_server.';

describe('getDistributionStrategy, row by row', () => {
  test('1: a negative number of GPUs, before the name is looked at', () => {
    assert.throws(() => getDistributionStrategy({ distributionStrategy: 'nonsense', numGpus: -1 }), {
      message: '`num_gpus` can not be negative.',
    });
  });
  test('2: off with several GPUs or workers', () => {
    assert.throws(() => getDistributionStrategy({ distributionStrategy: 'off', numGpus: 2 }), {
      message: "When 2 GPUs and  1 workers are specified, distribution_strategy flag cannot be set to 'off'.",
    });
    assert.throws(() => getDistributionStrategy({ distributionStrategy: 'OFF', numGpus: 1, numWorkers: 3 }), {
      message: "When 1 GPUs and  3 workers are specified, distribution_strategy flag cannot be set to 'off'.",
    });
  });
  test('3: off', () => {
    assert.equal(getDistributionStrategy({ distributionStrategy: 'off', numGpus: 1 }), null);
    assert.equal(getDistributionStrategy({ distributionStrategy: 'off' }), null);
  });
  test('4: multi_worker_mirrored, and several workers with default or mirrored, need the engine and say so', () => {
    for (const options of [
      { distributionStrategy: 'multi_worker_mirrored' },
      { distributionStrategy: 'default', numWorkers: 2 },
      { distributionStrategy: 'mirrored', numWorkers: 2 },
    ]) {
      assert.throws(
        () => getDistributionStrategy(options),
        /needs the multi-worker engine, which is not loaded\.\nhelp:/,
      );
    }
  });
  test('4: with the engine, it gets the communication, the devices and the packs', () => {
    const asked: MultiWorkerStrategyOptions[] = [];
    const strategy = new OneDeviceStrategy();
    const factories = {
      multiWorkerMirrored: (options: MultiWorkerStrategyOptions) => {
        asked.push(options);
        return strategy;
      },
    };
    const result = getDistributionStrategy({ numWorkers: 2, numCpus: 2, allReduceAlg: 'ring', numPacks: 3, factories });
    assert.equal(result, strategy);
    assert.deepEqual(asked, [{ communication: 'RING', numWorkers: 2, devices: ['cpu:0', 'cpu:1'], numPacks: 3 }]);
  });
  test('5: one device, or default without GPUs: the CPU', () => {
    for (const distributionStrategy of ['default', 'one_device', 'ONE_DEVICE', undefined]) {
      const strategy = getDistributionStrategy({ ...(distributionStrategy && { distributionStrategy }) });
      assert.ok(strategy instanceof OneDeviceStrategy);
      assert.deepEqual(names(strategy), ['cpu:0']);
      assert.equal(strategy.numReplicasInSync, 1);
    }
  });
  test('6: one device, or default, with one GPU: the GPU', () => {
    withGpus(() => {
      for (const distributionStrategy of ['default', 'one_device']) {
        const strategy = getDistributionStrategy({ distributionStrategy, numGpus: 1 });
        assert.ok(strategy instanceof OneDeviceStrategy);
        assert.deepEqual(names(strategy), ['gpu:0']);
      }
    });
  });
  test('7: one_device with several', () => {
    const message = '`OneDeviceStrategy` can not be used for more than one device.';
    assert.throws(() => getDistributionStrategy({ distributionStrategy: 'one_device', numGpus: 2 }), { message });
    assert.throws(() => getDistributionStrategy({ distributionStrategy: 'one_device', numCpus: 2 }), { message });
  });
  test('8: mirrored, or default with several GPUs', () => {
    const onCpu = getDistributionStrategy({ ...quiet, distributionStrategy: 'mirrored' });
    assert.ok(onCpu instanceof MirroredStrategy);
    assert.deepEqual(names(onCpu), ['cpu:0']);
    withGpus(() => {
      const strategy = getDistributionStrategy({ ...quiet, numGpus: 5 });
      assert.ok(strategy instanceof MirroredStrategy);
      assert.deepEqual(names(strategy), ['gpu:0', 'gpu:1', 'gpu:2', 'gpu:3', 'gpu:4']);
      assert.equal(strategy.numReplicasInSync, 5);
    });
  });
  test('9: parameter_server', () => {
    const strategy = new OneDeviceStrategy();
    const options = { distributionStrategy: 'parameter_server' };
    assert.equal(getDistributionStrategy({ ...options, factories: { parameterServer: () => strategy } }), strategy);
    assert.throws(() => getDistributionStrategy(options), /ParameterServerStrategy .* needs the multi-worker engine/);
  });
  test('10: anything else', () => {
    assert.throws(() => getDistributionStrategy({ distributionStrategy: 'Nonsense' }), {
      message: `Unrecognized Distribution Strategy: 'nonsense'\n${NAMES_HELP}`,
    });
    assert.throws(() => getDistributionStrategy({ distributionStrategy: "it's" }), {
      message: `Unrecognized Distribution Strategy: "it's"\n${NAMES_HELP}`,
    });
    // Upstream lets num_workers override it.
    assert.throws(() => getDistributionStrategy({ distributionStrategy: 'nonsense', numWorkers: 2 }), {
      message: `Unrecognized Distribution Strategy: 'nonsense'\n${NAMES_HELP}`,
    });
  });
});

describe('what is ours', () => {
  test('num_cpus: logical CPU devices, −1 is one per physical core', () => {
    const four = getDistributionStrategy({ ...quiet, numCpus: 4 });
    assert.ok(four instanceof MirroredStrategy);
    assert.deepEqual(names(four), ['cpu:0', 'cpu:1', 'cpu:2', 'cpu:3']);
    const all = getDistributionStrategy({ ...quiet, distributionStrategy: 'mirrored', numCpus: -1 });
    assert.equal(all?.numReplicasInSync, physicalCores().length);
    for (const numCpus of [0, -2, 1.5]) {
      assert.throws(() => getDistributionStrategy({ numCpus }), /`num_cpus` must be a positive number/);
    }
    assert.throws(
      () => getDistributionStrategy({ distributionStrategy: 'off', numCpus: 4 }),
      /^RangeError: When 4 CPU devices/,
    );
  });
  test('one process and several workers is a contradiction', () => {
    assert.throws(
      () => getDistributionStrategy({ distributionStrategy: 'one_device', numWorkers: 2 }),
      /'one_device' uses one process, but num_workers is 2\.\nhelp:/,
    );
  });
  test('num_packs auto is one pack where one is as good as many, one for each replica where two of them sum a pack', () => {
    const describe = (options: object) =>
      getDistributionStrategy({
        numCpus: 3,
        distributionStrategy: 'mirrored',
        numPacks: 'auto',
        log: () => {},
        ...options,
      })?.crossDeviceOpsDescription;
    assert.equal(describe({}), 'ShardedAllReduce(num_packs=1)');
    assert.equal(describe({ allReduceAlg: 'hierarchical_copy' }), 'HierarchicalCopyAllReduce(num_packs=3)');
    const asked: unknown[] = [];
    const multiWorkerMirrored = (options: { numPacks: unknown }) => {
      asked.push(options.numPacks);
      return new OneDeviceStrategy();
    };
    for (const numPacks of ['auto', 2, undefined] as const) {
      const packs = numPacks === undefined ? {} : { numPacks };
      getDistributionStrategy({ numWorkers: 2, ...packs, factories: { multiWorkerMirrored } });
    }
    assert.deepEqual(asked, ['auto', 2, null]);
  });

  test('num_packs is honoured when no algorithm is named, and with every algorithm', () => {
    const lines: string[] = [];
    const chosen = getDistributionStrategy({ numCpus: 2, numPacks: 3, log: (line) => lines.push(line) });
    assert.equal(chosen?.crossDeviceOpsDescription, 'ShardedAllReduce(num_packs=3)');
    assert.equal(lines.length, 1);
    for (const [allReduceAlg, name] of [
      ['hierarchical_copy', 'HierarchicalCopyAllReduce'],
      ['sharded', 'ShardedAllReduce'],
    ] as const) {
      const strategy = getDistributionStrategy({ numCpus: 2, numPacks: 2, allReduceAlg });
      assert.equal(strategy?.crossDeviceOpsDescription, `${name}(num_packs=2)`);
    }
  });
  test('a flag without effect is reported once, others are not', () => {
    assert.deepEqual(warningsOf({ distributionStrategy: 'off', numPacks: 2, allReduceAlg: 'nonsense' }), [
      "all_reduce_alg=nonsense has no effect with distribution_strategy 'off'.",
      "num_packs=2 has no effect with distribution_strategy 'off'.",
    ]);
    assert.deepEqual(warningsOf({ numPacks: 2 }), ['num_packs=2 has no effect with one device.']);
    assert.deepEqual(warningsOf({ distributionStrategy: 'mirrored', numPacks: 2 }), [
      'num_packs=2 has no effect with one replica.',
    ]);
    assert.deepEqual(warningsOf({ numCpus: 2, numPacks: 2 }), []);
    assert.deepEqual(warningsOf({}), []);
    withGpus(() => {
      assert.deepEqual(warningsOf({ numGpus: 2, numCpus: 4 }), [
        'num_cpus=4 has no effect with num_gpus=2: replicas run on the GPUs.',
      ]);
    });
  });
});

describe('algorithms', () => {
  test('mirrored: none lets the strategy choose, unknown ones are refused, case counts', () => {
    assert.equal(mirroredCrossDeviceOps(null, 4), null);
    for (const supplied of ['ring', 'NCCL', '']) {
      assert.throws(
        () => mirroredCrossDeviceOps(supplied, 1),
        (error: Error) =>
          error.message.split('\n')[0] ===
          "When used with `mirrored`, valid values for all_reduce_alg are ['nccl', 'hierarchical_copy'].  " +
            `Supplied value: ${supplied}`,
      );
    }
  });
  test('mirrored: packs below one are refused by each', () => {
    for (const numPacks of [0, -1]) {
      assert.throws(() => mirroredCrossDeviceOps('nccl', numPacks), {
        message: `NCCL all-reduce requires num_packs > 0, but ${numPacks} is specified`,
      });
      assert.throws(() => mirroredCrossDeviceOps('hierarchical_copy', numPacks), {
        message: `HierarchicalCopy requires num_packs > 0, but ${numPacks} is specified`,
      });
      assert.throws(() => getDistributionStrategy({ ...quiet, numCpus: 2, numPacks }), /num_packs > 0/);
    }
  });
  test('nccl on CPU devices fails at once and names what works', () => {
    assert.throws(
      () => getDistributionStrategy({ numCpus: 2, allReduceAlg: 'nccl' }),
      /NVIDIA[\s\S]*(sharded|hierarchical_copy)/,
    );
  });
  test('multi-worker', () => {
    assert.equal(collectiveCommunication(null), 'AUTO');
    assert.equal(collectiveCommunication(undefined), 'AUTO');
    assert.equal(collectiveCommunication('ring'), 'RING');
    assert.equal(collectiveCommunication('nccl'), 'NCCL');
    assert.throws(() => collectiveCommunication('hierarchical_copy'), {
      message:
        "When used with `multi_worker_mirrored`, valid values for all_reduce_alg are ['ring', 'nccl'].  " +
        'Supplied value: hierarchical_copy',
    });
  });
});

describe('perReplicaBatchSize', () => {
  test('upstream’s cases', () => {
    assert.equal(perReplicaBatchSize(147, 0), 147);
    assert.equal(perReplicaBatchSize(147, 1), 147);
    assert.equal(perReplicaBatchSize(147, 7), 21);
    assert.throws(() => perReplicaBatchSize(147, 5), {
      message:
        'When running with multiple GPUs, batch size must be a multiple of the number of available GPUs. ' +
        'Found 5 GPUs with a batch size of 147; try --batch_size=145 instead.',
    });
  });
  test('a batch smaller than the number of devices gets a proposal that works', () => {
    assert.throws(
      () => perReplicaBatchSize(3, 4, 'CPU devices'),
      /Found 4 CPU devices with a batch size of 3; try --batch_size=4 instead\.$/,
    );
  });
});

test('getStrategyScope: the strategy is current inside; for none nothing happens', () => {
  const strategy = new OneDeviceStrategy();
  assert.equal(
    getStrategyScope(strategy)(() => getStrategy()),
    strategy,
  );
  assert.equal(
    getStrategyScope(null)(() => getStrategy()),
    null,
  );
});
