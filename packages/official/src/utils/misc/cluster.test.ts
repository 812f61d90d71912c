/** configureCluster against the rules of upstream's configure_cluster. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { configureCluster } from './cluster.js';

const tfConfig = (cluster: object) => JSON.stringify({ cluster, task: { type: 'worker', index: 0 } });

describe('configureCluster', () => {
  it('is one worker without any description', () => {
    const environment: Record<string, string | undefined> = {};
    assert.equal(configureCluster(null, -1, environment), 1);
    assert.equal(environment.TF_CONFIG, undefined);
  });

  it('counts chief and workers of TF_CONFIG, and then ignores the flags', () => {
    const environment = {
      TF_CONFIG: tfConfig({ chief: ['a:1'], worker: ['b:1', 'c:1'], ps: ['d:1'], evaluator: ['e:1'] }),
    };
    const before = environment.TF_CONFIG;
    assert.equal(configureCluster('x:1,y:1,z:1,w:1', -1, environment), 3);
    assert.equal(environment.TF_CONFIG, before);
    assert.throws(
      () => configureCluster(null, -1, { TF_CONFIG: '{"task": {}}' }),
      /"cluster" is not found in TF_CONFIG/,
    );
    assert.throws(() => configureCluster(null, -1, { TF_CONFIG: 'a:1' }), /TF_CONFIG is not JSON/);
    assert.equal(configureCluster(null, -1, { TF_CONFIG: '' }), 1);
  });

  it('refuses a TF_CONFIG that is not of its form, and variables that are no numbers, by name', () => {
    for (const [text, pattern] of [
      ['null', /TF_CONFIG must be a JSON object, got null\.\nhelp: TF_CONFIG='/],
      ['[1]', /TF_CONFIG must be a JSON object/],
      ['{"cluster": 5}', /"cluster" in TF_CONFIG must map job names to lists of host:port/],
      ['{"cluster": {"worker": "a:1"}}', /"cluster" in TF_CONFIG must map job names to lists/],
      ['{"cluster": {"worker": [1]}}', /"cluster" in TF_CONFIG must map job names to lists/],
      ['{"cluster": {}}', /You must have `chief` or `worker` jobs/],
      ['{"cluster": {"worker": ["a:1"]}, "task": 7}', /"task" in TF_CONFIG must be an object, got 7/],
    ] as const) {
      assert.throws(() => configureCluster(null, -1, { TF_CONFIG: text }), pattern, text);
    }
    const launched = { OMPI_COMM_WORLD_RANK: '0', OMPI_COMM_WORLD_SIZE: '2' };
    for (const [name, value] of [
      ['LOCKSTEP_NUM_PS', 'one'],
      ['LOCKSTEP_NUM_PS', '-1'],
      ['OMPI_COMM_WORLD_SIZE', ''],
      ['OMPI_COMM_WORLD_RANK', '1.5'],
    ] as const) {
      assert.throws(
        () => configureCluster(null, -1, { ...launched, [name]: value }),
        new RegExp(`${name} is '${value}', .*\nhelp: `, 's'),
      );
    }
    assert.throws(() => configureCluster(null, -1, { ...launched, OMPI_COMM_WORLD_RANK: '2' }), /rank 2 of 2/);
    for (const hosts of ['a:1,,b:1', '-oProxyCommand=x', 'a b:1']) {
      assert.throws(() => configureCluster(hosts, 0, {}), /worker_hosts: '.*' in '.*' is not a host\.\nhelp:/);
    }
    assert.equal(configureCluster('[::1]:2222,b-1.example:1', 0, {}), 2);
  });

  it('writes TF_CONFIG from worker_hosts and task_index', () => {
    const environment: Record<string, string | undefined> = {};
    assert.equal(configureCluster('a:1,b:2', 1, environment), 2);
    assert.deepEqual(JSON.parse(environment.TF_CONFIG as string), {
      cluster: { worker: ['a:1', 'b:2'] },
      task: { type: 'worker', index: 1 },
    });
  });

  it('forces the index of a single worker to 0', () => {
    const environment: Record<string, string | undefined> = {};
    assert.equal(configureCluster('a:1', 5, environment), 1);
    assert.equal(JSON.parse(environment.TF_CONFIG as string).task.index, 0);
  });

  it('needs an index for several workers, within their number', () => {
    assert.throws(() => configureCluster('a:1,b:1', -1, {}), {
      name: 'RangeError',
      message: 'Must specify task_index when number of workers > 1',
    });
    assert.throws(() => configureCluster('a:1,b:1', 2, {}), /task_index is 2, and worker_hosts names 2 workers/);
  });

  it("takes mpirun's processes for workers, and the rank for the index", () => {
    const launched = (rank: number): Record<string, string | undefined> => ({
      OMPI_COMM_WORLD_RANK: String(rank),
      OMPI_COMM_WORLD_SIZE: '4',
    });
    assert.equal(configureCluster(null, -1, launched(2)), 4);
    assert.equal(configureCluster(null, -1, { ...launched(2), LOCKSTEP_NUM_PS: '1' }), 3);
    const environment = launched(2);
    assert.equal(configureCluster('a:1,b:1,c:1,d:1', -1, environment), 4);
    assert.equal(JSON.parse(environment.TF_CONFIG as string).task.index, 2);
    assert.equal(configureCluster(null, -1, { PMIX_RANK: '0', SLURM_NTASKS: '2' }), 2);
  });
});
