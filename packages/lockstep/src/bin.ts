#!/usr/bin/env node
/** The command `lockstep`. Everything it does is in cli.ts, so that tests can call it. */
import { main } from './cli.js';

// Loaded for `lockstep launch` only: `lockstep --help` takes no longer than Node does.
const launcher = process.env.LOCKSTEP_STATUS_MARK ? await import('@lockstep/distribute') : null;
launcher?.reportBeginning();
// Not process.exit: output that is still on its way must arrive.
process.exitCode = await main(process.argv.slice(2));
launcher?.reportStatus(process.exitCode);
