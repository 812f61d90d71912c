#!/usr/bin/env node
// What npm links as the command `lockstep`. It is here, and not in dist, because npm links a workspace's commands when it
// installs, before anything is built, and passes over those whose file is missing.
import { existsSync } from 'node:fs';

const program = new URL('../dist/bin.js', import.meta.url);
if (existsSync(program)) await import(program.href);
else {
  process.stderr.write('lockstep is not built yet.\nhelp: npm run build\n');
  process.exitCode = 1;
}
