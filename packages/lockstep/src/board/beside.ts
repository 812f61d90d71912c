/**
 * A board beside a run: in a process of its own, of low priority, so that the run does not feel it; while nobody looks it reads nothing. The
 * run waits for nothing of it, and it ends when the run does, however that ends: the pipe between them closes.
 */
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('./beside-process.js', import.meta.url));
/** A busy machine starts a process slowly. */
const START_MS = 20_000;

/**
 * @param folder model folder; it may not be there yet
 * @returns the page's address
 * @throws Error where there is none in time
 */
export async function boardBeside(folder: string): Promise<string> {
  // Its own group: Ctrl-C is meant for the run, which saves what it has, and may be watched doing so.
  const child = spawn(process.execPath, [PROGRAM, folder], { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
  child.stdin.on('error', () => {});
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<string>((resolve, reject) => {
      let said = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      createInterface(child.stdout).once('line', resolve);
      child.once('error', reject);
      child.once('close', () => reject(new Error(said.trim() || 'the page has ended before it began.')));
      timer = setTimeout(() => {
        child.kill();
        reject(
          new Error(
            `the page has no address after ${START_MS / 1000} s.\nhelp: \`lockstep board ${folder}\` shows it.`,
          ),
        );
      }, START_MS);
    });
  } finally {
    clearTimeout(timer);
    child.unref();
    for (const stream of [child.stdin, child.stdout, child.stderr]) (stream as Socket).unref();
  }
}
