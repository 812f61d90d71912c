// Proves that the linter's rule about imports between packages works: a violation that is written on purpose must be found,
// in each package that the rule protects, and what the rule allows must pass. The probes are files, written for the moment:
// text on standard input is formatted by the linter, but its imports are not reported.
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const biome = join(root, 'node_modules/.bin/biome');

/** [package, what it imports, whether that must be refused] */
const CASES = [
  ['onednn', '@lockstep/distribute', true],
  ['onednn', '@lockstep/official/data/digits', true],
  ['webgpu', '@lockstep/distribute', true],
  ['webgpu', '@lockstep/onednn', true],
  ['distribute', '@lockstep/onednn', true],
  ['distribute', '@lockstep/webgpu', true],
  ['distribute', 'lockstep', true],
  ['official', '@lockstep/onednn', true],
  ['official', '@lockstep/onednn/device', true],
  ['official', '@lockstep/webgpu', true],
  ['official', '@lockstep/distribute', false],
  ['lockstep', '@lockstep/onednn', false],
  ['lockstep', '@lockstep/webgpu', false],
  ['lockstep', '@lockstep/official/data/digits', false],
];

let failures = 0;
for (const [index, [name, specifier, isRefused]] of CASES.entries()) {
  const path = join('packages', name, 'src', `arrow-probe-${process.pid}-${index}.ts`);
  writeFileSync(join(root, path), `export * from '${specifier}';\n`);
  try {
    const { stdout, stderr, status } = spawnSync(biome, ['lint', path], { cwd: root, encoding: 'utf8' });
    const found = `${stdout}${stderr}`.includes('noRestrictedImports');
    if (found === isRefused && (status === 0) === !isRefused) continue;
    failures++;
    console.log(
      `packages/${name} importing ${specifier} was ${found ? '' : 'not '}refused (status ${status}).\n${stdout}${stderr}`,
    );
  } finally {
    rmSync(join(root, path), { force: true });
  }
}
console.log(`${CASES.length - failures} of ${CASES.length} arrows as they should be`);
process.exitCode = failures > 0 ? 1 : 0;
