// What `npm start` and `npm run bench` run: sets up what is missing, then runs the command, in this process, so that its signals and its
// status are the command's own. The set-up sees what was typed: --backend=cpu needs no library.
//
//   node scripts/lockstep.mjs start [flags]
import { fileURLToPath } from 'node:url';
import { setUp } from './setup.mjs';

setUp();
const bin = new URL('../packages/lockstep/dist/bin.js', import.meta.url);
process.argv[1] = fileURLToPath(bin);
await import(bin.href);
