/** The process that adapters.ts asks: prints one line of JSON, a ProbeAnswer. */
import { readFacts } from './adapter-facts.js';
import type { ProbeAnswer } from './adapters.js';

const answer: ProbeAnswer = await readFacts().then(
  (adapters) => ({ adapters }),
  (error: Error) => ({ error: error.message }),
);
// Dawn's threads are not waited for.
process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit(0));
