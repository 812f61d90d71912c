// Proves that the linter's rule about imports between packages works: a violation that is written on purpose must be found,
// in each package that the rule protects, and what the rule allows must pass.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const biome = join(root, 'node_modules/.bin/biome');

/** [package, what it imports, whether that must be refused] */
const CASES = [
  ['onednn', '@lockstep/distribute', true],
  ['onednn', '@lockstep/official/data/digits', true],
  ['distribute', '@lockstep/onednn', true],
  ['distribute', 'lockstep', true],
  ['official', '@lockstep/onednn', true],
  ['official', '@lockstep/onednn/device', true],
  ['official', '@lockstep/distribute', false],
  ['lockstep', '@lockstep/onednn', false],
  ['lockstep', '@lockstep/official/data/digits', false],
];

let failures = 0;
for (const [name, specifier, isRefused] of CASES) {
  const source = `export * from '${specifier}';\n`;
  const { stdout, stderr, status } = spawnSync(biome, ['lint', `--stdin-file-path=packages/${name}/src/arrow.ts`], {
    cwd: root,
    input: source,
    encoding: 'utf8',
  });
  const found = `${stdout}${stderr}`.includes('noRestrictedImports');
  if (found === isRefused) continue;
  failures++;
  console.log(
    `packages/${name} importing ${specifier} was ${found ? '' : 'not '}refused (status ${status}).\n${stdout}${stderr}`,
  );
}
console.log(`${CASES.length - failures} of ${CASES.length} arrows as they should be`);
process.exitCode = failures > 0 ? 1 : 0;
