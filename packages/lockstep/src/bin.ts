#!/usr/bin/env node
/** The command `lockstep`. Everything it does is in cli.ts, so that tests can call it. */
import { main } from './cli.js';

// Not process.exit: output that is still on its way must arrive.
process.exitCode = await main(process.argv.slice(2));
