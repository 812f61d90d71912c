// The documentation is true: every block of TypeScript in README.md, docs/, CONTRIBUTING.md and the packages' READMEs type-checks under
// `strict` against the workspace's packages, every block of shell commands runs, and every flag of `lockstep` that a page names is one.
// What a comment exempts is counted; docs-blocks.mjs lists those comments.
//
//   node scripts/check-docs.mjs [--types | --commands] [--list] [--only=<part of a page's name>]      --list: what is exempt, and why
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { programsOf, readPages, writePrograms } from './docs-blocks.mjs';
import { checkCommands, flagProblems } from './docs-commands.mjs';
import { run } from './run-test-file.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const TSC_LIMIT_MS = 120_000;
const OPTIONS = {
  ...{ strict: true, noEmit: true, target: 'es2022', lib: ['es2023'], module: 'nodenext', types: ['node'] },
  // TensorFlow.js' own declarations are not right everywhere. Ours were checked when they were made.
  skipLibCheck: true,
};

/** The package `@tensorflow/tfjs`, of which the workspace has the parts only. */
const UNION = `export * from '@tensorflow/tfjs-core';
export * from '@tensorflow/tfjs-layers';
export * as data from '@tensorflow/tfjs-data';
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';
`;

/** @returns what the compiler says of the pages' programs, by the pages' lines. */
export async function typeProblems(pages) {
  // Symbolic links of the system's temporary folder would make other paths of the same files.
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-docs-'));
  try {
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    writeFileSync(join(folder, 'tfjs.ts'), UNION);
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
    const programs = pages.flatMap(({ file, blocks }) => {
      const written = programsOf(blocks);
      const paths = writePrograms(join(folder, file.replaceAll(/\W/g, '_')), written);
      return written.map((program, i) => ({ ...program, path: paths[i] }));
    });
    if (programs.length === 0) return { programs: 0, problems: [] };
    // A program that is a file of the workspace (`// packages/…`) finds its neighbours there.
    const homes = programs.filter(({ name }) => name.startsWith('packages/'));
    const config = {
      compilerOptions: {
        ...OPTIONS,
        paths: { '@tensorflow/tfjs': ['./tfjs.ts'] },
        rootDirs: [root, ...homes.map(({ path, name }) => path.slice(0, -name.length - 1))],
      },
      files: programs.map(({ path }) => path),
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
    const tsc = join(root, 'node_modules', '.bin', 'tsc');
    const { status, output } = await run(tsc, ['-p', folder, '--pretty', 'false'], {
      limit: TSC_LIMIT_MS,
      cwd: folder,
    });
    const byPath = new Map(programs.map((program) => [relative(folder, program.path), program]));
    const problems = output
      // Lines that are indented belong to the one before.
      .split(/\n(?! )/)
      .filter((text) => text.trim() !== '')
      .map((text) => text.replace(/^([^\s(]+)\((\d+),\d+\)/, (all, path, at) => pageLine(byPath.get(path), at) ?? all))
      .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    if (status !== 0 && problems.length === 0) problems.push(`tsc ended with status ${status}`);
    return { programs: programs.length, problems: status === 0 ? [] : problems };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const pageLine = (program, at) => program && `${program.file}:${program.lines[at - 1]}`;

async function main(words) {
  const only = words.find((word) => word.startsWith('--only='))?.slice('--only='.length) ?? '';
  const pages = readPages(root).filter(({ file }) => file.includes(only));
  const blocks = pages.flatMap((page) => page.blocks);
  const problems = pages.flatMap((page) => page.problems);
  const summary = [];
  if (!words.includes('--commands')) {
    const typescript = blocks.filter(({ language }) => language === 'ts');
    const exempt = typescript.filter(({ notes }) => notes['not compiled'] !== undefined);
    const { programs, problems: found } = await typeProblems(pages);
    problems.push(...found);
    const compiled = typescript.length - exempt.length;
    summary.push(
      `${compiled} blocks of TypeScript compiled as ${programs} programs, ${exempt.length} are none on purpose`,
    );
    if (words.includes('--list'))
      for (const each of exempt) console.log(`${each.file}:${each.line}: ${each.notes['not compiled']}`);
  }
  if (!words.includes('--types')) {
    problems.push(...(await flagProblems(root, pages)));
    const { ran, elsewhere, exempt, partly, problems: found } = await checkCommands(root, blocks);
    problems.push(...found);
    summary.push(
      `${ran} blocks of commands run, ${elsewhere.length} by a test of their own, ${exempt.length} not run`,
      `${partly.length} lines left out`,
    );
    if (words.includes('--list')) {
      for (const each of elsewhere) console.log(`${each.file}:${each.line}: run by ${each.notes['run by']}`);
      for (const each of partly) console.log(`${each.file}:${each.line}: without ${each.begin}, ${each.reason}`);
      for (const { block, why } of exempt) console.log(`${block.file}:${block.line}: not run: ${why}`);
    }
  }
  for (const problem of problems) console.log(problem);
  console.log(`${summary.join('; ')}; ${problems.length} problems`);
  process.exitCode = problems.length > 0 ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
