/**
 * For tests: two hosts on this machine, as network namespaces joined by a link (scripts/two-hosts.sh). Not part of the package.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openMpiRank, processesByRank } from './process.js';

const SCRIPT = fileURLToPath(new URL('../../../../scripts/two-hosts.sh', import.meta.url));

/** Why there cannot be two hosts here, or false: fits node:test's `skip`. */
export function whyNoTwoHosts(): string | false {
  if (process.platform !== 'linux') return 'network namespaces are Linux';
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  if (spawnSync('ip', ['-V']).status !== 0 || spawnSync('tc', ['-V']).status !== 0) {
    return 'iproute2 is not installed (apt-get install iproute2)';
  }
  const name = `lockstep-${process.pid}`;
  const tried = spawnSync(SCRIPT, ['up', name], { encoding: 'utf8' });
  const entered = tried.status === 0 ? spawnSync(SCRIPT, ['exec', name, 'a', 'true'], { encoding: 'utf8' }) : tried;
  spawnSync(SCRIPT, ['down', name]);
  return entered.status === 0 ? false : `network namespaces are not permitted: ${entered.stderr.trim().split('\n')[0]}`;
}

/** See the file's head. */
export class TwoHosts {
  readonly hosts = '10.77.0.1:1,10.77.0.2:1';
  readonly environment: NodeJS.ProcessEnv;
  readonly agent: string;

  /** @param folder Where the launch agent's file may lie. @param rate As tc writes it. */
  constructor(
    readonly name: string,
    folder: string,
    rate = '1gbit',
  ) {
    execFileSync(SCRIPT, ['up', name, rate]);
    this.environment = { LOCKSTEP_TWO_HOSTS: name };
    // mpirun takes a program's name, and splits arguments off at blanks.
    this.agent = join(folder, 'agent.sh');
    writeFileSync(this.agent, `#!/bin/sh\nexec '${SCRIPT}' agent "$@"\n`);
    chmodSync(this.agent, 0o755);
  }

  /** A command on the first host, as a program and its arguments. */
  command(...words: string[]): [string, string[]] {
    return [SCRIPT, ['exec', this.name, 'a', ...words]];
  }

  /** Numbers of the processors that a host's programs may use, as the kernel lists them. */
  processors(host: 'a' | 'b'): string {
    const status = execFileSync(SCRIPT, ['exec', this.name, host, 'cat', '/proc/self/status'], { encoding: 'utf8' });
    return /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? '';
  }

  /** Process ids, as this machine counts, of ranks that run on the hosts, by rank. */
  ranks(): Map<number, number> {
    const own = `\0LOCKSTEP_TWO_HOSTS=${this.name}\0`;
    return processesByRank((folder) => {
      const environment = `\0${readFileSync(`${folder}/environ`, 'utf8')}`;
      return environment.includes(own) ? openMpiRank(environment) : undefined;
    });
  }

  link(state: 'up' | 'down'): void {
    execFileSync(SCRIPT, ['link', this.name, state]);
  }

  remove(): void {
    spawnSync(SCRIPT, ['down', this.name]);
  }
}
