/** Under a real Slurm of two nodes: what ranks learn from srun of the cluster and of their place in it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { whyNoMpirun } from '../testing-process.js';
import { SlurmCluster, whyNoSlurm } from '../testing-slurm.js';

describe('Slurm', { skip: whyNoMpirun() || whyNoSlurm() }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-slurm-'));
  let cluster: SlurmCluster;
  const srun = (args: string[], script: string) =>
    cluster
      .run('srun', [...args, process.execPath, '--input-type=module', '-e', script])
      .trim()
      .split('\n')
      .sort();

  before(async () => {
    cluster = await SlurmCluster.start(folder);
  });
  after(async () => {
    await cluster?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  it('the resolver lays tasks out over the nodes of the allocation', () => {
    const script = `
      import { SlurmClusterResolver } from '${import.meta.resolve('@lockstep/distribute')}';
      const resolver = new SlurmClusterResolver({ jobs: { worker: 3, ps: 1 }, gpusPerNode: 2 });
      const spec = resolver.clusterSpec();
      console.log(JSON.stringify([resolver.getTaskInfo(), process.env.CUDA_VISIBLE_DEVICES, spec]));`;
    const spec = { ps: ['n1:8888'], worker: ['n1:8889', 'n2:8888', 'n2:8889'] };
    const expected = ['ps 0 0', 'worker 0 1', 'worker 1 0', 'worker 2 1'].map((line) => {
      const [type, index, gpu] = line.split(' ');
      return JSON.stringify([{ type, index: Number(index) }, gpu, spec]);
    });
    const args = ['--nodes=2', '--ntasks-per-node=2', '--overcommit', '--label'];
    const lines = srun(args, script).map((line, rank) => line.replace(`${rank}: `, ''));
    assert.deepEqual(lines, expected);
  });

  it('a rank knows its place among those of its node, whatever the job asked for', () => {
    const script = `
      import { launchedProcess } from '${import.meta.resolve('@lockstep/distribute')}';
      console.log(JSON.stringify(launchedProcess()));`;
    const place = (rank: number) => JSON.stringify({ launcher: 'srun', rank, size: 2, localRank: rank, localSize: 2 });
    const lines = srun(['--mpi=pmix', '--nodes=1', '--ntasks=2', '--overcommit'], script);
    assert.deepEqual(lines, [place(0), place(1)]);
  });
});
