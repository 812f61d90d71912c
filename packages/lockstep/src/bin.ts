#!/usr/bin/env node
/** The command `lockstep`. Everything it does is in cli.ts, so that tests can call it. */
import { main } from './cli.js';
import { reportStatus, STATUS_MARK_VARIABLE } from './status-mark.js';

// Not process.exit: output that is still on its way must arrive.
process.exitCode = await main(process.argv.slice(2));
if (process.env[STATUS_MARK_VARIABLE]) reportStatus(process.exitCode);
