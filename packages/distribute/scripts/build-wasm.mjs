/**
 * Compiles assembly/ (its entry is kernels.ts) to dist/simd/kernels.wasm. Runs at build time only; nobody who installs needs a compiler.
 *
 * Incremental: does nothing while a stamp beside the output says that it was made from these sources with these options.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const root = new URL('../', import.meta.url);
const source = fileURLToPath(new URL('assembly/kernels.ts', root));
const target = fileURLToPath(new URL('dist/simd/kernels.wasm', root));
const stampFile = `${target}.stamp`;

/** Shared memory needs its maximum in the module; FlatMemory makes memories of exactly this one (4 GiB). */
const OPTIONS = [
  ...['-O3', '--noAssert', '--runtime', 'stub', '--use', 'abort='],
  ...['--importMemory', '--sharedMemory', '--initialMemory', '1', '--maximumMemory', '65536'],
  ...['--enable', 'simd', '--enable', 'threads'],
];

const { version } = createRequire(import.meta.url)('assemblyscript/package.json');
const assembly = new URL('assembly/', root);
const files = readdirSync(assembly, { recursive: true })
  .map(String)
  .filter((name) => name.endsWith('.ts'))
  .sort();
const hash = createHash('sha256').update(JSON.stringify([version, OPTIONS, files]));
for (const file of files) hash.update(readFileSync(new URL(file, assembly)));
const stamp = hash.digest('hex');

if (!existsSync(target) || !existsSync(stampFile) || readFileSync(stampFile, 'utf8') !== stamp) {
  const asc = await import('assemblyscript/asc');
  mkdirSync(new URL('dist/simd/', root), { recursive: true });
  const { error, stderr } = await asc.main([source, '--outFile', target, ...OPTIONS]);
  if (error) {
    console.error(`${stderr.toString()}\nCould not compile ${source}: ${error.message}`);
    process.exit(1);
  }
  writeFileSync(stampFile, stamp);
}
