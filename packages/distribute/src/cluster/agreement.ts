/**
 * Do all ranks run the same thing? Compared once, at the start, because a difference found later looks like anything else.
 *
 * Compares named facts (version, flags, model) as text over any Communicator; it knows none of them.
 */
import { type Communicator, CommunicatorError } from '../communicator/communicator.js';
import { gatherValues } from '../communicator/gather.js';
import { stringifyValues } from '../communicator/plain-values.js';
import { inWords as ranksInWords } from '../mirror/fingerprint.js';

/** What must be the same on all ranks, by name: {version: '0.1.0', flags: …, model: …}. Values are compared as text that keeps NaN apart from null. */
export type Facts = Readonly<Record<string, unknown>>;

/**
 * Throws, on every rank, unless all ranks bring the same facts. Collective.
 * @throws CommunicatorError naming each fact that differs, the ranks, and their values.
 */
export function checkAgreement(communicator: Communicator, facts: Facts): void {
  if (communicator.size === 1) return;
  const all = gatherValues(communicator, facts);
  const differences: string[] = [];
  const names = new Set(all.flatMap((one) => Object.keys(one)));
  for (const name of names) {
    const byValue = new Map<string, number[]>();
    for (const [rank, one] of all.entries()) {
      const value = stringifyValues(one[name]);
      byValue.set(value, [...(byValue.get(value) ?? []), rank]);
    }
    if (byValue.size < 2) continue;
    const found = differencesOnly(all.map((one) => one[name]));
    const said = [...byValue.values()].map((ranks) => `${ranksInWords(ranks, 'rank')}: ${found(ranks[0] as number)}`);
    differences.push(`${name} (${said.join('; ')})`);
  }
  if (differences.length === 0) return;
  throw new CommunicatorError(
    `The ranks do not run the same thing. Different: ${differences.join(', ')}.\n` +
      'help: install the same version on every machine and give every rank the same flags; mpirun does when it starts all of them.',
  );
}

/** Of records, only the members that differ are worth showing. */
function differencesOnly(values: readonly unknown[]): (rank: number) => string {
  const records = values.filter(
    (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  ) as Facts[];
  if (records.length < values.length) return (rank) => inWords(values[rank]);
  const names = [...new Set(records.flatMap((record) => Object.keys(record)))].filter(
    (name) => new Set(records.map((record) => stringifyValues(record[name]))).size > 1,
  );
  return (rank) => names.map((name) => `${name}=${inWords(records[rank]?.[name])}`).join(' ');
}

function inWords(value: unknown): string {
  // NaN and infinities have no JSON of their own.
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? 'nothing');
  return text.length > 200 ? `${text.slice(0, 197)}…` : text;
}
