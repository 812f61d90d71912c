/** MpiCommunicator under real mpirun: sums against closed forms, and what happens when a rank is lost. */
import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { after, describe, it } from 'node:test';
import { hasSharedMemory, isLocalJob, localTransports } from './native/ports.js';
import { type MpirunResult, mpirun, SceneJob, whyNoMpirun } from './testing/mpirun.js';

const program = new URL('./testing/program.js', import.meta.url);
const skip = whyNoMpirun();

describe('MpiCommunicator', { skip }, () => {
  for (const processes of [1, 2, 3, 4]) {
    describe(`${processes} processes`, () => {
      const job = new SceneJob(processes, program, { args: ['scenes'] });
      after(async () => {
        const result = await job.close();
        assert.equal(result?.status ?? 0, 0, result?.describe());
      });
      // 'alone' is the first that needs the thread beside, so that it starts while nobody calls the communicator.
      for (const scene of ['algorithms', 'types', 'bf16', 'asynchronous', 'alone', 'background', 'test']) {
        it(scene, async () => {
          await job.play({ scene });
        });
      }
      if (processes !== 2 && processes !== 3) return;
      it('thousands of packs at once', async () => {
        await job.play({ scene: 'many' });
      });
    });
  }

  it('debug mode names the ranks that disagree, and what they issued', async () => {
    const result = await mpirun(3, program, { args: ['debug'] });
    assert.notEqual(result.status, 0);
    // Whichever rank compares first tells the others, so any of the three may be the one that speaks.
    for (const output of result.outputs) {
      assert.match(output, /Ranks disagree on collective 2: rank \d issued all_reduce of/, result.describe());
      assert.match(output, /rank 1 (\(host [^)]*\) )?issued all_reduce of 48 bytes/, result.describe());
      assert.match(output, /rank [02] (\(host [^)]*\) )?issued all_reduce of 40 bytes/, result.describe());
    }
  });
});

/** Runs ranks 0–2; rank 1 is the victim at step 20. Ranks 0 and 2 survive. */
async function fault(how: string, limitSeconds = 30) {
  return await mpirun(3, program, { args: ['fault', how, '1', '20'], limitSeconds });
}

/** Most of the time they wait, for a limit, or for mpirun to end the others. */
describe('a rank is lost', { skip, concurrency: 3 }, () => {
  for (const how of ['kill', 'middle', 'background']) {
    it(`killed (${how}): every survivor names it, the collective and the step`, async () => {
      const result = await fault(how);
      assert.notEqual(result.status, 0, result.describe());
      for (const survivor of [0, 2]) {
        assert.match(
          result.outputs[survivor] as string,
          /Rank 1 \(host .*, process \d+\) was lost: .*Rank \d of 3 was .*\(collective (19|20)(, step (19|20))?\)/,
          result.describe(),
        );
      }
      assert.ok(result.seconds < 20, result.describe());
    });
  }

  it('killed while another rank is inside a long call: it is named all the same', async () => {
    const result = await mpirun(2, program, { args: ['longCall'] });
    assert.notEqual(result.status, 0, result.describe());
    assert.match(
      result.outputs[0] as string,
      /Rank 1 \(host .*, process \d+\) was lost: its process is gone\. Rank 0 of 2 was computing .*step 3/,
      result.describe(),
    );
  });

  // mpirun wakes all ranks to end them when the first survivor has: what a frozen one has issued may go through then, and the
  // other survivor is one collective further when it hears why.
  for (const [how, when, where] of [
    ['stop', 'between collectives', 'collective 20, step 20'],
    ['stop-issued', 'with one issued', 'collective (20, step 20|21, step 21)'],
  ] as const) {
    it(`frozen ${when}: a warning first, then the same within the limit`, async () => {
      const result = await fault(how);
      assert.notEqual(result.status, 0);
      for (const survivor of [0, 2]) {
        const output = result.outputs[survivor] as string;
        assert.match(output, /has been waiting in all_reduce .*Behind: rank 1 .*is stopped/, result.describe());
        assert.doesNotMatch(output, /No rank is behind/, result.describe());
        const lost = new RegExp(`Rank 1 .* was lost: it has not answered for \\d.*\\(${where}\\)`);
        assert.match(output, lost, result.describe());
      }
      assert.ok(result.seconds < 20, result.describe());
    });
  }

  it('its communication thread fails to start: it says why, and the others name it', async () => {
    const preload = new URL('./testing/thread-fault.js', import.meta.url).href;
    const cases = [
      ['none', /all steps done/],
      ['library', /The communication thread ended: .*\/there\/is\/no\/libmpi\.so/s],
      ['exit', /The communication thread did not start: nothing was heard of it for \d+ s\.\nhelp: /],
    ] as const;
    const results = await Promise.all(
      cases.map(([how]) => {
        const environment = { NODE_OPTIONS: `--import=${preload}`, LOCKSTEP_TEST_THREAD_FAULT: how };
        return mpirun(3, program, { args: ['thread'], environment });
      }),
    );
    for (const [i, [how, reason]] of cases.entries()) {
      const result = results[i] as MpirunResult;
      assert.equal(result.status === 0, how === 'none', result.describe());
      assert.match(result.outputs[1] as string, reason, result.describe());
      if (how === 'none') continue;
      for (const survivor of [0, 2]) {
        assert.match(result.outputs[survivor] as string, /Rank 1 .*The communication thread/, result.describe());
      }
      // Long before anybody gives up waiting.
      assert.ok(result.seconds < 25, result.describe());
    }
  });

  it('its own error is heard, and the others name it', async () => {
    const result = await fault('throw');
    assert.notEqual(result.status, 0);
    assert.match(result.outputs[1] as string, /a mistake of its own/);
    for (const survivor of [0, 2]) {
      assert.match(result.outputs[survivor] as string, /Rank 1 .* ended with exit status 1/, result.describe());
    }
  });

  it('abort reaches every rank with its reason', async () => {
    const result = await fault('abort');
    assert.notEqual(result.status, 0);
    for (const output of result.outputs)
      assert.match(output, /Rank 1 .* aborted the group: out of paper/, result.describe());
  });

  it('late, but alive: a warning, and the job goes on', async () => {
    const result = await fault('late');
    assert.equal(result.status, 0, result.describe());
    assert.match(
      result.outputs[0] as string,
      /Behind: rank 1 .* is computing after all_reduce .*\(collective 19, step 20\)/,
      result.describe(),
    );
    for (const output of result.outputs) assert.match(output, /all steps done/);
  });

  it('alive and never coming: the time limit ends it', async () => {
    const result = await fault('hang');
    assert.notEqual(result.status, 0);
    for (const survivor of [0, 2]) {
      assert.match(result.outputs[survivor] as string, /Rank 1 .* did not come within 8\.0 s/, result.describe());
    }
  });

  it('a different collective is told apart from a late rank', async () => {
    const result = await fault('other');
    assert.notEqual(result.status, 0);
    assert.match(
      result.outputs.join(''),
      /Ranks disagree on collective 20: .*broadcast of 800,000 bytes/,
      result.describe(),
    );
  });

  it('killed during start: the launcher ends the job', async () => {
    const result = await fault('start-kill');
    assert.notEqual(result.status, 0, result.describe());
    assert.ok(result.seconds < 20, result.describe());
  });

  it('frozen during start: the guard ends the job', async () => {
    const result = await fault('start-stop');
    assert.notEqual(result.status, 0, result.describe());
    assert.match(result.outputs.join(''), /Open MPI did not start within 3 s/, result.describe());
    assert.ok(result.seconds < 25, result.describe());
  });

  it('a rank that has closed is named by those that go on, and is not taken for lost', async () => {
    const result = await mpirun(3, program, { args: ['early', 'sum'], limitSeconds: 40 });
    assert.ok(result.status, result.describe());
    for (const survivor of [0, 2]) {
      const output = result.outputs[survivor] as string;
      const named =
        /Rank 1 \(host .*, process \d+\) has closed its communicator after collective 1\. Rank \d of 3 was waiting in all_reduce of 4,000 bytes \(collective 2, step 7\)/;
      assert.match(output, named, result.describe());
      assert.doesNotMatch(output, /was lost/, result.describe());
    }
    assert.match(result.outputs[1] as string, /Rank 1 of 3 was through and waited for the others/, result.describe());
  });

  it('a rank that is through waits for those that still work, and all leave together', async () => {
    const result = await mpirun(3, program, { args: ['early', 'work'] });
    assert.equal(result.status, 0, result.describe());
    const left = result.outputs.map((output) => Number(/left (\S+)/.exec(output)?.[1]));
    // The others' work takes 1.5 s.
    assert.ok(Math.max(...left) - Math.min(...left) < 1000, `${left}\n${result.describe()}`);
  });

  it('a rank that is through says which one was lost while it waited', async () => {
    const result = await mpirun(3, program, { args: ['early', 'kill'], limitSeconds: 40 });
    assert.ok(result.status, result.describe());
    for (const survivor of [1, 2]) {
      const output = result.outputs[survivor] as string;
      assert.match(output, /Rank 0 .* was lost: .*\. Rank \d of 3 was through and waited/, result.describe());
    }
  });

  it('a rank that may be lost is killed when it is through: the others leave all the same', async () => {
    const mpirunArgs = ['--enable-recovery'];
    const result = await mpirun(3, program, { args: ['early', 'tolerated'], mpirunArgs, limitSeconds: 60 });
    for (const survivor of [0, 2]) assert.match(result.outputs[survivor] as string, /^left /m, result.describe());
    assert.doesNotMatch(result.outputs.join(''), /could not leave Open MPI/, result.describe());
  });

  it('a rank that is through does not wait for ever', async () => {
    const result = await mpirun(3, program, { args: ['early', 'hang'], limitSeconds: 40 });
    assert.ok(result.status, result.describe());
    assert.match(result.outputs[1] as string, /Rank [02] .* did not close its group within 2 s/, result.describe());
  });

  it('a rank that leaves a job with a lost one is not taken for lost itself', async () => {
    const result = await mpirun(3, program, { args: ['leave'], mpirunArgs: ['--enable-recovery'] });
    assert.match(result.outputs[0] as string, /waited to the end/, result.describe());
  });

  it('a rank that was lost while the last one closed is missed before MPI_Finalize', async () => {
    const mpirunArgs = ['--enable-recovery'];
    const result = await mpirun(3, program, { args: ['early', 'tolerated-last'], mpirunArgs, limitSeconds: 60 });
    for (const survivor of [0, 2]) assert.match(result.outputs[survivor] as string, /^left /m, result.describe());
    assert.doesNotMatch(result.outputs.join(''), /could not leave Open MPI/, result.describe());
    for (const survivor of [0, 2])
      assert.match(result.outputs[survivor] as string, /^in order: false$/m, result.describe());
  });

  it('two jobs at once do not meet', async () => {
    const results = await Promise.all([1, 2].map(() => mpirun(2, program, { args: ['asynchronous'] })));
    for (const result of results) assert.equal(result.status, 0, result.describe());
  });
});

describe('ports', { skip, concurrency: 2 }, () => {
  it('ranks of one machine listen on none', async () => {
    const result = await mpirun(2, program, { args: ['ports'] });
    assert.equal(result.status, 0, result.describe());
    for (const each of result.results as { ports: number[] }[]) assert.deepEqual(each.ports, [], result.describe());
  });

  it('what somebody has chosen for messages stays', async () => {
    const result = await mpirun(2, program, { args: ['ports'], mpirunArgs: ['--mca', 'btl', 'self,tcp'] });
    assert.equal(result.status, 0, result.describe());
    for (const each of result.results as { ports: number[]; transports: string }[]) {
      assert.equal(each.transports, 'self,tcp');
      assert.ok(each.ports.length > 0, result.describe());
    }
  });

  it('several hosts, or a launcher that does not say: nothing is changed', () => {
    assert.equal(isLocalJob({ OMPI_COMM_WORLD_SIZE: '4', OMPI_COMM_WORLD_LOCAL_SIZE: '2' }), false);
    assert.equal(isLocalJob({}), false);
    assert.equal(isLocalJob({ SLURM_STEP_NUM_NODES: '2' }), false);
    assert.equal(isLocalJob({ SLURM_STEP_NUM_NODES: '1' }), true);
    assert.equal(localTransports('5.0.3'), 'self,sm');
  });

  it('where shared memory has no room, or cannot be written, TCP stays', () => {
    assert.equal(hasSharedMemory(2, tmpdir()), true);
    assert.equal(hasSharedMemory(2 ** 40, tmpdir()), false);
    assert.equal(hasSharedMemory(1, '/not/there'), false);
    assert.equal(hasSharedMemory(1, '/proc'), false);
  });

  for (const whom of ['one', 'all']) {
    it(`a stranger who connects to ${whom} and stays is no end of the limits`, async () => {
      const mpirunArgs = ['--mca', 'btl', 'self,tcp'];
      const result = await mpirun(2, program, { args: ['stray', whom], mpirunArgs, limitSeconds: 60 });
      for (const [, pid] of result.outputs.join('').matchAll(/^stranger (\d+)$/gm)) {
        try {
          process.kill(Number(pid), 'SIGKILL');
        } catch {
          // It has ended by itself.
        }
      }
      assert.ok(result.status, result.describe());
      assert.match(
        result.outputs.join(''),
        /Rank \d \(host .*, process \d+\) .*(inside Open MPI|has heard of no other rank|was lost)/,
        result.describe(),
      );
    });
  }
});
