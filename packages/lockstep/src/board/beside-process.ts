/** What runs beside a run (beside.ts): prints the board's address, and ends when its standard input does. */
import { setPriority } from 'node:os';
import { startBoard } from './server.js';

/** As `nice` knows it: whatever else wants a core has it first. */
const NICE = 15;

try {
  setPriority(NICE);
} catch {
  // A system that has no such thing.
}
process.stdin.once('close', () => process.exit(0)).resume();
try {
  const board = await startBoard({ folder: process.argv[2] as string });
  process.stdout.write(`${board.url}\n`);
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(1);
}
