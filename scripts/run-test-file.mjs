// Runs one file of tests in a process of its own and counts what became of them. Every file ends with a verdict: one that holds
// no test, crashes before its first, or hangs is a failure; one whose suites were all skipped is not, and says why.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const REPORTER = fileURLToPath(new URL('count-reporter.mjs', import.meta.url));
/** After the first signal, for what a test wants to put away. */
const GRACE_MS = 5000;

/**
 * Runs a command, collects its output, and ends it, with all that it started, when it hangs.
 *
 * @returns its status (null if a signal ended it), its output, and whether it took longer than `limit` ms.
 */
export function run(command, args, { limit, env = {}, cwd }) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: `node --test` has a child for the file, which would live on and hold the pipes open.
      detached: true,
    });
    let output = '';
    let hung = false;
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    const end = (signal) => {
      try {
        process.kill(-child.pid, signal);
      } catch {
        // It has ended meanwhile.
      }
    };
    let grace;
    const timer = setTimeout(() => {
      hung = true;
      output += `\nended after ${limit / 1000} s\n`;
      end('SIGTERM');
      grace = setTimeout(() => end('SIGKILL'), GRACE_MS);
    }, limit);
    const done = (status) => {
      clearTimeout(timer);
      clearTimeout(grace);
      resolve({ status, output, hung });
    };
    child.once('error', (error) => {
      output += `${error.message}\n`;
      done(1);
    });
    child.once('close', done);
  });
}

/**
 * @param path a file of tests for node:test.
 * @returns counts of tests (a suite that is skipped whole counts as one), the reasons of those skipped, and the output.
 */
export async function runTestFile(path, { limit, env = {}, cwd = process.cwd() }) {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-test-'));
  try {
    const counted = join(folder, 'counts');
    const { status, output, hung } = await run(
      process.execPath,
      [
        ...['--test', '--test-reporter=tap', '--test-reporter-destination=stdout'],
        ...[`--test-reporter=${REPORTER}`, `--test-reporter-destination=${counted}`, path],
      ],
      // Inside a test, Node takes this for a file of its own.
      { limit, env: { ...env, NODE_TEST_CONTEXT: undefined }, cwd },
    );
    const outcomes = readOutcomes(counted);
    const count = (outcome) => outcomes.filter((each) => each.outcome === outcome).length;
    const result = {
      passed: count('passed'),
      failed: count('failed'),
      skipped: count('skipped'),
      reasons: outcomes.filter(({ outcome }) => outcome === 'skipped').map(({ name, why }) => `${name}: ${why}`),
      output,
    };
    if ((status !== 0 || hung) && result.failed === 0) result.failed = 1;
    if (result.passed + result.failed + result.skipped === 0) {
      result.failed = 1;
      result.output += `${path} holds no test. help: write one, or remove the file.\n`;
    }
    return result;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function readOutcomes(path) {
  let text = '';
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    // Ended before the reporter began.
  }
  // The last line may be cut where the process was killed.
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}
