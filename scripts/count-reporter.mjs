// A reporter for `node --test` that counts: one line of JSON for each test that ended, for run-test-file.mjs to add up.
//
// Node's own summary cannot be used for it: a suite that is skipped counts as nothing there, and a file without a single test
// counts as one that passed.
import { resolve } from 'node:path';

/** What an event says of the count: null where it says nothing (a suite that ran, a file that held tests). */
export function outcomeOf({ type, data }, cwd = process.cwd()) {
  if (type !== 'test:pass' && type !== 'test:fail') return null;
  const name = data.name;
  const isSuite = data.details?.type === 'suite';
  // With a process per file, Node reports the file itself where it held no test, or where it ended badly.
  const isFile =
    data.nesting === 0 && /\.[cm]?js$/.test(name) && (data.file === undefined || resolve(cwd, name) === data.file);
  if (type === 'test:fail') {
    // A suite or file that failed because a test in it did is counted with that test.
    const why = data.details?.error?.failureType;
    if (why === 'subtestsFailed' && (isSuite || isFile)) return null;
    if (data.todo === undefined || data.todo === false) return { outcome: 'failed', name };
    return { outcome: 'skipped', name, why: `to do: ${data.todo}` };
  }
  if (isFile) return null;
  if (data.skip !== undefined && data.skip !== false) return { outcome: 'skipped', name, why: String(data.skip) };
  if (data.todo !== undefined && data.todo !== false) return { outcome: 'skipped', name, why: `to do: ${data.todo}` };
  return isSuite ? null : { outcome: 'passed', name };
}

export default async function* count(source) {
  for await (const event of source) {
    const outcome = outcomeOf(event);
    if (outcome !== null) yield `${JSON.stringify(outcome)}\n`;
  }
}
