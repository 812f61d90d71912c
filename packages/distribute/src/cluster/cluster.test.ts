/** Clusters: upstream's rules and messages (multi_worker_util, the resolvers' tests and README), and the mpirun line. */
import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { describe, it } from 'node:test';
import {
  type ClusterSpec,
  collectiveLeader,
  idInCluster,
  isChief,
  KubernetesClusterResolver,
  launchedProcess,
  mpirunCommand,
  NotLaunchedError,
  parseHostfile,
  parseHosts,
  resolveCluster,
  SlurmClusterResolver,
  shellQuote,
  TFConfigClusterResolver,
  validateClusterSpec,
  workerCount,
} from './index.js';

const full: ClusterSpec = { chief: ['c:1'], worker: ['w0:1', 'w1:1'], ps: ['p:1'], evaluator: ['e:1'] };
const workers: ClusterSpec = { worker: ['w0:1', 'w1:1'], ps: ['p:1'] };

describe('cluster spec', () => {
  it('refuses impossible tasks in upstream’s words', () => {
    const refuse = (spec: ClusterSpec, type: string, index: number, message: string) =>
      assert.throws(() => validateClusterSpec(spec, { type, index }), { name: 'ClusterError', message });
    refuse(
      full,
      'boss',
      0,
      'Unrecognized task_type: \'boss\', valid task types are: "chief", "worker", "evaluator" and "ps".',
    );
    refuse(workers, 'chief', 0, "`task_type` 'chief' not found in cluster_spec.");
    refuse({ ...full, chief: ['a', 'b'] }, 'worker', 0, "There must be at most one 'chief' job.");
    refuse({ ...full, evaluator: ['a', 'b'] }, 'worker', 0, "There must be at most one 'evaluator' job.");
    refuse(full, 'worker', 2, 'The `task_id` 2 exceeds the maximum id of worker.');
  });

  it('knows the chief, counts workers and numbers them', () => {
    const table: [ClusterSpec, string, number, boolean, number | RegExp, number | RegExp][] = [
      [full, 'chief', 0, true, 3, 0],
      [full, 'worker', 0, false, 3, 1],
      [full, 'worker', 1, false, 3, 2],
      [full, 'evaluator', 0, true, 1, 0],
      [full, 'ps', 0, false, /Unexpected `task_type` 'ps'/, /There is no id for task_type 'ps'/],
      [workers, 'worker', 0, true, 2, 0],
      [workers, 'worker', 1, false, 2, 1],
    ];
    for (const [spec, type, index, chief, count, id] of table) {
      const task = { type, index };
      assert.equal(isChief(spec, task), chief, `${type} ${index}`);
      if (typeof count === 'number') assert.equal(workerCount(spec, task), count);
      else assert.throws(() => workerCount(spec, task), count);
      if (typeof id === 'number') assert.equal(idInCluster(spec, task), id);
      else assert.throws(() => idInCluster(spec, task), id);
    }
    assert.equal(collectiveLeader(full, { type: 'worker', index: 1 }), '/job:chief/replica:0/task:0');
    assert.equal(collectiveLeader(workers, { type: 'worker', index: 1 }), '/job:worker/replica:0/task:0');
    assert.equal(collectiveLeader(full, { type: 'evaluator', index: 0 }), '');
    assert.equal(collectiveLeader({}, { type: 'worker', index: 0 }), '');
  });
});

describe('TF_CONFIG', () => {
  const environment = (config: object) => ({ TF_CONFIG: JSON.stringify(config) });

  it('gives cluster, task, layer and master', () => {
    const config = { cluster: { worker: ['a:1', 'b:1'] }, task: { type: 'worker', index: '1' }, rpc_layer: 'grpc' };
    const resolver = new TFConfigClusterResolver({}, environment(config));
    assert.deepEqual(resolver.clusterSpec(), config.cluster);
    assert.equal(resolver.taskType, 'worker');
    assert.equal(resolver.taskId, 1);
    assert.equal(resolver.master(), 'grpc://b:1');
    const overridden = new TFConfigClusterResolver({ taskId: 0, rpcLayer: 'x' }, environment(config));
    assert.equal(overridden.master(), 'x://a:1');
  });

  it('has no master for one task alone, and the session master before all', () => {
    assert.equal(new TFConfigClusterResolver({}, {}).master(), '');
    assert.deepEqual(new TFConfigClusterResolver({}, {}).clusterSpec(), {});
    assert.equal(new TFConfigClusterResolver({}, environment({ cluster: { worker: ['a:1'] } })).master(), '');
    const named = { cluster: { worker: ['a:1', 'b:1'] }, task: { type: 'worker', index: 0 }, session_master: 'm:1' };
    assert.equal(new TFConfigClusterResolver({}, environment(named)).master(), 'm:1');
  });

  it('says what is missing, in upstream’s words', () => {
    const refuse = (config: object, message: string) =>
      assert.throws(() => new TFConfigClusterResolver({}, environment(config)).member(), { message });
    refuse({ task: { type: 'worker', index: 0 } }, '"cluster" is not found in TF_CONFIG.');
    refuse({ cluster: { worker: ['a:1'] } }, '"task" is not found in TF_CONFIG.');
    refuse({ cluster: { worker: ['a:1'] }, task: {} }, '"task_type" is not found in the `task` part of TF_CONFIG.');
    refuse(
      { cluster: { ps: ['a:1'] }, task: { type: 'ps', index: 0 } },
      'You must have `chief` or `worker` jobs in the `cluster_spec`.',
    );
    assert.throws(() => new TFConfigClusterResolver({}, { TF_CONFIG: '[1' }), /TF_CONFIG is not JSON/);
    assert.throws(
      () => new TFConfigClusterResolver({}, environment({ cluster: { worker: 'a:1' } })),
      /lists of host:port/,
    );
  });
});

describe('Slurm', () => {
  const environment = (rank: number) => ({ SLURM_PROCID: String(rank), SLURM_NTASKS: '4', SLURM_NTASKS_PER_NODE: '2' });
  const options = { jobs: { worker: 3, ps: 1 }, gpusPerNode: 2, hosts: () => ['t02n13', 't02n41'] };

  it('lays tasks out as upstream’s README shows', () => {
    const own: NodeJS.ProcessEnv = environment(3);
    const resolver = new SlurmClusterResolver({ ...options, environment: own });
    assert.equal(resolver.getTaskInfo(), null);
    assert.deepEqual(resolver.clusterSpec(), {
      ps: ['t02n13:8888'],
      worker: ['t02n13:8889', 't02n41:8888', 't02n41:8889'],
    });
    assert.deepEqual(resolver.getTaskInfo(), { type: 'worker', index: 2 });
    assert.equal(own.CUDA_VISIBLE_DEVICES, '1');
    assert.equal(resolver.master(), 'grpc://t02n41:8889');
  });

  it('refuses what the allocation cannot hold', () => {
    const make = (change: object) => () =>
      new SlurmClusterResolver({ ...options, environment: environment(0), ...change });
    assert.throws(make({ jobs: { worker: 5 } }), { message: 'Requested more tasks then assigned tasks.' });
    assert.throws(make({ gpusPerTask: 2 }), { message: 'Requested more GPUs per node then available.' });
    assert.throws(make({ environment: { SLURM_PROCID: '0', SLURM_NTASKS: '4' } }), {
      message: 'Neither `tasks_per_node` or SLURM_NTASKS_PER_NODE is set.',
    });
    assert.throws(make({ environment: {} }), /None of OMPI_COMM_WORLD_RANK, SLURM_PROCID is set/);
  });

  it('prefers Open MPI’s rank and size', () => {
    const both = { ...environment(0), OMPI_COMM_WORLD_RANK: '1', OMPI_COMM_WORLD_SIZE: '4' };
    const resolver = new SlurmClusterResolver({ ...options, environment: both });
    resolver.clusterSpec();
    assert.deepEqual(resolver.getTaskInfo(), { type: 'worker', index: 0 });
  });
});

describe('Kubernetes', () => {
  const pod = (name: string, hostIp: string, phase = 'Running') => ({ name, hostIp, phase });

  it('sorts running pods by name', async () => {
    const listPods = async (selector: string) =>
      selector === 'job-name=tensorflow' ? [pod('b', '10.0.0.2'), pod('a', '10.0.0.1')] : [];
    const resolver = new KubernetesClusterResolver({ listPods });
    assert.deepEqual(await resolver.clusterSpec(), { worker: ['10.0.0.1:8470', '10.0.0.2:8470'] });
    assert.equal(await resolver.master(), '');
    assert.equal(await resolver.master({ type: 'worker', index: 1 }), 'grpc://10.0.0.2:8470');
  });

  it('refuses a pod that does not run, and a missing client', async () => {
    const resolver = new KubernetesClusterResolver({ listPods: async () => [pod('a', '', 'Pending')] });
    await assert.rejects(resolver.clusterSpec(), { message: 'Pod "a" is not running; phase: "Pending"' });
    assert.throws(() => new KubernetesClusterResolver(), /client/);
  });

  it('reads a hostfile', () => {
    const text = '# made by the operator\njob-worker-0.job slots=2\njob-worker-1.job:3\n\nplain\n';
    assert.deepEqual(parseHostfile(text), [
      { name: 'job-worker-0.job', slots: 2 },
      { name: 'job-worker-1.job', slots: 3 },
      { name: 'plain', slots: 1 },
    ]);
    assert.throws(() => parseHostfile('a\nb c d\n'), /Line 2 of the hostfile is 'b c d'/);
  });
});

describe('the launcher', () => {
  it('is read from the environment', () => {
    assert.equal(launchedProcess({ SLURM_PROCID: '0', SLURM_NTASKS: '4' }), null);
    const environment = {
      OMPI_COMM_WORLD_RANK: '3',
      OMPI_COMM_WORLD_SIZE: '4',
      OMPI_COMM_WORLD_LOCAL_RANK: '1',
      OMPI_COMM_WORLD_LOCAL_SIZE: '2',
    };
    assert.deepEqual(launchedProcess(environment), {
      launcher: 'mpirun',
      rank: 3,
      size: 4,
      localRank: 1,
      localSize: 2,
    });
    const slurm = { PMIX_RANK: '1', SLURM_NTASKS: '2', SLURM_LOCALID: '0', SLURM_NTASKS_PER_NODE: '1' };
    assert.deepEqual(launchedProcess(slurm), { launcher: 'srun', rank: 1, size: 2, localRank: 0, localSize: 1 });
    // `srun -n 8` in a job that asked for nothing else, or for something else.
    const step = { ...slurm, SLURM_STEP_TASKS_PER_NODE: '3,2(x2),1' };
    const localSizes = [0, 1, 2, 3].map((node) => launchedProcess({ ...step, SLURM_NODEID: String(node) })?.localSize);
    assert.deepEqual(localSizes, [3, 2, 2, 1]);
  });

  it('hosts are read, and refused with the part that is none', () => {
    assert.deepEqual(parseHosts('a:2, b'), [
      { name: 'a', slots: 2 },
      { name: 'b', slots: 1 },
    ]);
    for (const wrong of ['', 'a:0', 'a:2,,b', 'a b', 'a:x']) assert.throws(() => parseHosts(wrong), /is not a host/);
  });

  it('a command can be typed as printed', () => {
    const command = mpirunCommand(
      { hosts: parseHosts('a:2,b:2'), program: ['node', 'train.js', "--title=it's one"] },
      { LOCKSTEP_X: '1', SECRET: '2' },
    );
    const line = shellQuote(command);
    assert.match(line, /^mpirun -np 4 --host a:2,b:2 --bind-to none /);
    assert.match(line, / -x LOCKSTEP_X node train\.js '--title=it'\\''s one'$/);
    assert.doesNotMatch(line, /SECRET|oversubscribe/);
    assert.match(
      shellQuote(mpirunCommand({ hosts: [], processes: 2, program: ['x'] }, {})),
      /^mpirun -np 2 --oversubscribe /,
    );
  });
});

describe('resolveCluster', () => {
  const argv = ['node', '/opt/train.js', '--worker_hosts=a:1,b:1', '--task_index', '0', '--batch_size=8'];
  const tfConfig = (cluster: object) => JSON.stringify({ cluster, task: { type: 'worker', index: 0 } });
  const rank = (index: number, size: number) => ({ OMPI_COMM_WORLD_RANK: `${index}`, OMPI_COMM_WORLD_SIZE: `${size}` });

  it('is one worker, the chief, if nothing says otherwise', () => {
    const cluster = resolveCluster({}, argv);
    assert.deepEqual(cluster.spec, { worker: [`${hostname()}-0`] });
    assert.equal(cluster.isChief, true);
    assert.equal(cluster.launched, null);
  });

  it('prints the exact command where mpirun is missing', () => {
    const error = (() => {
      try {
        resolveCluster({ TF_CONFIG: tfConfig({ worker: ['a:1', 'b:1', 'b:2'] }) }, argv);
      } catch (thrown) {
        return thrown;
      }
      return null;
    })();
    assert.ok(error instanceof NotLaunchedError);
    assert.match(error.message, /The cluster has 3 processes/);
    assert.match(error.command, /^mpirun -np 3 --host a:1,b:2 .* node \/opt\/train\.js --batch_size=8$/);
    assert.ok(error.message.endsWith(error.command));
  });

  it('deals ranks to tasks: chief, workers, servers', () => {
    const environment = { TF_CONFIG: tfConfig({ ps: ['p:1'], worker: ['a:1'], chief: ['c:1'] }) };
    const types = [0, 1, 2].map((index) => resolveCluster({ ...environment, ...rank(index, 3) }, argv).task.type);
    assert.deepEqual(types, ['chief', 'worker', 'ps']);
    assert.throws(
      () => resolveCluster({ ...environment, ...rank(0, 2) }, argv),
      /started 2 processes, and TF_CONFIG .* 3 tasks/,
    );
    const servers = [0, 1, 2].map((index) => resolveCluster({ LOCKSTEP_NUM_PS: '1', ...rank(index, 3) }, argv));
    assert.deepEqual(
      servers.map(({ task, numWorkers }) => `${task.type} ${task.index} of ${numWorkers}`),
      ['worker 0 of 2', 'worker 1 of 2', 'ps 0 of 2'],
    );
    assert.throws(
      () => resolveCluster({ LOCKSTEP_NUM_PS: '3', ...rank(0, 3) }, argv),
      /at least one has to be a worker/,
    );
  });
});
