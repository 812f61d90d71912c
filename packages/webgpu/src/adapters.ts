/**
 * Which GPUs this machine has: asked of Dawn once, by a process of its own. WebGPU answers with promises and strategies ask at once; a
 * driver that crashes or complains does so over there; and a program that uses no GPU loads none of it.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { AdapterFacts } from './adapter.js';

/** What the process prints. */
export type ProbeAnswer = { readonly adapters: readonly AdapterFacts[] } | { readonly error: string };

const PROBE = fileURLToPath(new URL('./probe.js', import.meta.url));
/** A driver that has not answered by then never will. */
const LIMIT_MS = 30_000;

let answer: { readonly adapters: readonly AdapterFacts[]; readonly problem: string | null } | null = null;

/** All adapters, software ones included, and what went wrong, if anything did. Asked once in a process. */
export function probe(): { readonly adapters: readonly AdapterFacts[]; readonly problem: string | null } {
  answer ??= ask();
  return answer;
}

function ask(): { adapters: readonly AdapterFacts[]; problem: string | null } {
  const { stdout, stderr, status, signal, error } = spawnSync(process.execPath, [PROBE], {
    encoding: 'utf8',
    timeout: LIMIT_MS,
    // Flags of this process (a loader, --inspect) are not for that one.
    env: { ...process.env, NODE_OPTIONS: '' },
    windowsHide: true,
  });
  const line = stdout?.trim().split('\n').at(-1) ?? '';
  try {
    const found = JSON.parse(line) as ProbeAnswer;
    if ('error' in found) return { adapters: [], problem: found.error };
    return { adapters: found.adapters, problem: null };
  } catch {
    const end = error?.message ?? (signal ? `signal ${signal}` : `status ${status}`);
    const said = stderr?.trim().split('\n').slice(-3).join('\n') ?? '';
    return {
      adapters: [],
      problem: `Dawn gave no answer about the GPUs of this machine: its process ended with ${end}.${said && `\n${said}`}`,
    };
  }
}
