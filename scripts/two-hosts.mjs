// Two hosts on one machine for a benchmark (scripts/two-hosts.sh makes them): the hosts while something is measured, and `lockstep` on
// both of them under mpirun, or on one; and two processes of one machine in their place.
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const script = join(root, 'scripts', 'two-hosts.sh');
const bin = join(root, 'packages', 'lockstep', 'dist', 'bin.js');

/**
 * Hosts joined by a link, until `measure` is through.
 * @param link its rate as tc writes it, and after a blank how much may pass at once, if not 1mb
 */
export async function withTwoHosts(link, measure) {
  const name = `lockstep-bench-${process.pid}`;
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-bench-'));
  const agent = join(folder, 'agent.sh');
  writeFileSync(agent, `#!/bin/sh\nexec '${script}' agent "$@"\n`);
  chmodSync(agent, 0o755);
  const up = spawnSync(script, ['up', name, ...link.split(' ')], { encoding: 'utf8' });
  try {
    if (up.status !== 0) throw new Error(`There can be no two hosts here: ${up.stderr.trim()}`);
    return await measure(new TwoHosts(name, agent));
  } finally {
    spawnSync(script, ['down', name]);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The same without hosts: two processes of this machine. */
export const oneMachine = (measure) => measure(new TwoProcesses());

const MPIRUN = ['mpirun', '--allow-run-as-root', '--bind-to', 'none'];

/** Two processes of one machine. */
class TwoProcesses {
  /** What runs a job's ranks. */
  get ranks() {
    return [...MPIRUN, '-np', '2'];
  }

  /** What runs something on one side. */
  on(_side) {
    return [];
  }

  get environment() {
    return process.env;
  }

  /** `lockstep …` on both, a rank each. @returns the object that --json printed last. @throws Error naming `title` */
  job(title, words, limitSeconds) {
    const [command, ...rest] = [...this.ranks, process.execPath, bin, ...words];
    const { stdout, stderr, status, error } = spawnSync(command, rest, {
      ...{ encoding: 'utf8', timeout: 1000 * limitSeconds, env: this.environment },
    });
    if (error?.code === 'ETIMEDOUT') throw new Error(`${title}: not through after ${limitSeconds} s.`);
    if (status !== 0) throw new Error(`${title}: ${error?.message ?? (stderr || stdout)}`);
    return { ...JSON.parse(stdout.trim().split('\n').at(-1)), said: stderr };
  }

  /** `lockstep …` on one of them, 'a' or 'b', while others may run. */
  alone(side, words, limitSeconds) {
    const [command, ...rest] = [...this.on(side), process.execPath, bin, ...words];
    const child = spawn(command, rest, {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 1000 * limitSeconds,
    });
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status) => {
        if (status === 0) resolve(output);
        else reject(new Error(`lockstep ${words[0]} on ${side}: ${output}`));
      });
    });
  }
}

class TwoHosts extends TwoProcesses {
  constructor(name, agent) {
    super();
    this.name = name;
    this.agent = agent;
  }

  get ranks() {
    const hosts = ['--host', '10.77.0.1:1,10.77.0.2:1'];
    return [...this.on('a'), ...MPIRUN, '--mca', 'plm_rsh_agent', this.agent, ...hosts];
  }

  on(side) {
    return [script, 'exec', this.name, side];
  }

  get environment() {
    return { ...process.env, LOCKSTEP_TWO_HOSTS: this.name };
  }
}
