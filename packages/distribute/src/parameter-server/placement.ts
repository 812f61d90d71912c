/**
 * Which parameter server holds which variable: the largest first, each to the server that holds least so far; equal ones go
 * round. A function of the sizes alone, so every worker computes the same.
 *
 * Upstream deals variables round robin in the order of their creation, which can leave one server with most of the bytes.
 */

/** @returns index of the server for each variable. */
export function placeVariables(lengths: readonly number[], servers: number): number[] {
  if (!Number.isInteger(servers) || servers < 1)
    throw new RangeError(`There must be a parameter server, got ${servers}.`);
  const held = new Array<number>(servers).fill(0);
  const count = new Array<number>(servers).fill(0);
  const placed = new Array<number>(lengths.length).fill(0);
  const order = lengths.map((_, i) => i).sort((a, b) => (lengths[b] as number) - (lengths[a] as number) || a - b);
  for (const variable of order) {
    let least = 0;
    for (let server = 1; server < servers; server++) {
      const difference = (held[server] as number) - (held[least] as number);
      if (difference < 0 || (difference === 0 && (count[server] as number) < (count[least] as number))) least = server;
    }
    placed[variable] = least;
    held[least] = (held[least] as number) + (lengths[variable] as number);
    count[least] = (count[least] as number) + 1;
  }
  return placed;
}
