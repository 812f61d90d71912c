// Runs the documentation's blocks of shell commands, each in a clone of the workspace of its own, with an empty home. The clone has what is
// tracked and what is built; packages are links, so that `npm ci` there would not touch these.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { withoutOf } from './docs-blocks.mjs';
import { run } from './run-test-file.mjs';

/** A block that takes longer hangs. */
const LIMIT_MS = 300_000;
const LIST_LIMIT_MS = 30_000;

/** Commands that a block's `shorter` flags go behind; mpirun hands on what comes last. */
const LENGTHY = ['npx', 'lockstep', 'mpirun', 'npm', 'node'];
/** Open MPI asks for these where one is root, as in containers, or has fewer cores than ranks. */
const MPI = {
  OMPI_ALLOW_RUN_AS_ROOT: '1',
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
  OMPI_MCA_rmaps_base_oversubscribe: '1',
};

/**
 * @param blocks of any language
 * @returns `ran`, a number; `elsewhere`, blocks; `exempt`, { block, why }; `partly`, lines left out of those that are;
 *   `problems`.
 */
export async function checkCommands(root, blocks) {
  const commands = blocks.filter(({ language }) => language === 'sh');
  const elsewhere = commands.filter(({ notes }) => notes['run by'] !== undefined);
  const exempt = commands.flatMap((block) => {
    if (elsewhere.includes(block)) return [];
    const why = block.notes['not run'] ?? whyNotHere(block);
    return why === undefined ? [] : [{ block, why }];
  });
  const problems = elsewhere
    .flatMap((block) => block.notes['run by'].split(/,\s*/).map((path) => ({ block, path: path.trim() })))
    .filter(({ path }) => !existsSync(join(root, path)))
    .map(({ block, path }) => `${block.file}:${block.line}: run by ${path}, which is not there`);
  const here = commands.filter((block) => !elsewhere.includes(block) && !exempt.some((each) => each.block === block));
  for (const block of here) {
    const { status, output, seconds } = await runBlock(root, block);
    if (status !== 0) problems.push(`${block.file}:${block.line}: status ${status} after ${seconds} s\n${output}`);
    else if (process.env.LOCKSTEP_VERBOSE) console.log(`${block.file}:${block.line}: ${seconds} s\n${output}`);
  }
  const partly = here.flatMap((block) => withoutOf(block.notes).map((without) => ({ ...block, ...without })));
  return { ran: here.length, elsewhere, exempt, partly, problems };
}

/** What a machine may lack, and CI does not. */
function whyNotHere({ code }) {
  const has = (command) => process.env.PATH.split(':').some((folder) => existsSync(join(folder, command)));
  return /\bmpirun\b/.test(code) && !has('mpirun') ? 'there is no mpirun on this machine' : undefined;
}

async function runBlock(root, { code, notes }) {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-docs-'));
  const begin = Date.now();
  try {
    const [clone, home] = [join(folder, 'lockstep'), join(folder, 'home')];
    mkdirSync(home);
    await makeClone(root, clone);
    const env = {
      ...{ HOME: home, npm_config_cache: process.env.npm_config_cache ?? join(homedir(), '.npm') },
      ...MPI,
      ...{
        PATH: `${join(clone, 'node_modules', '.bin')}:${process.env.PATH}`,
        LOCKSTEP_VERBOSE: undefined,
        NODE_TEST_CONTEXT: undefined,
      },
    };
    const result = await run('bash', ['-euo', 'pipefail', '-c', scriptOf(code, notes)], {
      limit: LIMIT_MS,
      cwd: clone,
      env,
    });
    return { ...result, seconds: ((Date.now() - begin) / 1000).toFixed(1) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function scriptOf(code, notes) {
  const left = withoutOf(notes).map(({ begin }) => begin);
  const lines = code.split('\n').filter((line) => !left.some((begin) => line.startsWith(begin)));
  const shorten = LENGTHY.map((name) => `${name}() { command ${name} "$@" ${notes.shorter}; }`);
  return [notes.first ?? '', ...(notes.shorter === undefined ? [] : shorten), ...lines].join('\n');
}

/** @param folder that is not there yet */
async function makeClone(root, folder) {
  const list = await run('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
    limit: LIST_LIMIT_MS,
    cwd: root,
  });
  if (list.status !== 0) throw new Error(list.output);
  const projects = [...readdirSync(join(root, 'packages')).map((name) => join('packages', name)), 'examples'];
  const files = [...list.output.split('\n').filter(Boolean), ...projects.map((name) => join(name, 'dist'))];
  for (const file of files.filter((name) => existsSync(join(root, name)))) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    // The compiler looks at times: what is built is not built again.
    cpSync(join(root, file), join(folder, file), { recursive: true, preserveTimestamps: true });
  }
  // What a tool has beside it (scripts/api).
  for (const file of files.filter((name) => name.endsWith('/package.json'))) {
    const modules = join(dirname(file), 'node_modules');
    if (existsSync(join(root, modules))) symlinkSync(join(root, modules), join(folder, modules));
  }
  const [from, to] = [join(root, 'node_modules'), join(folder, 'node_modules')];
  mkdirSync(to);
  const own = new Set(projects.filter((name) => existsSync(join(root, name, 'package.json'))));
  for (const name of readdirSync(from)) {
    if (name !== '@lockstep' && name !== 'lockstep') symlinkSync(join(from, name), join(to, name));
  }
  mkdirSync(join(to, '@lockstep'));
  for (const project of own) {
    const { name } = JSON.parse(readFileSync(join(root, project, 'package.json'), 'utf8'));
    symlinkSync(join(folder, project), join(to, name));
  }
}

/** @returns flags that a page names behind `lockstep <command>`, and that this command does not have. */
export async function flagProblems(root, pages) {
  const known = await flagsByCommand(root);
  return pages.flatMap(({ file }) => {
    // A line that goes on in the next one is one line.
    const text = readFileSync(join(root, file), 'utf8').replaceAll('\\\n', '  ');
    return [...text.matchAll(/\b(?:lockstep|npm start --) [^\n`|]*/g)].flatMap(({ 0: words, index }) => {
      // A page may show what is wrong, with what it says.
      if (text.slice(index + words.length).startsWith('\nUnknown command line flag')) return [];
      const line = text.slice(0, index).split('\n').length;
      return unknownFlags(words.replace(/^npm start --/, 'lockstep start'), known).map(
        (flag) => `${file}:${line}: ${flag}`,
      );
    });
  });
}

/** @returns 'command has no --flag' for each. */
export function unknownFlags(words, known) {
  const found = [];
  for (const part of words.replace(/^lockstep /, '').split(' -- ')) {
    // A comment behind the command, and what comes after a program that is not lockstep's.
    const tokens = part.replace(/ #.*/, '').split(/\s+/);
    const path = [`${tokens[0]} ${tokens[1]}`, tokens[0]].find((name) => known.has(name));
    if (path === undefined) continue;
    for (const token of tokens) {
      const [, flag] = /^--(\w+)/.exec(token) ?? [];
      if (flag !== undefined && !known.get(path).has(flag)) found.push(`lockstep ${path} has no flag --${flag}`);
    }
  }
  return found;
}

/** From the script that shells complete with, which is made from the definitions that commands parse with. */
async function flagsByCommand(root) {
  const bin = join(root, 'packages', 'lockstep', 'bin', 'lockstep.js');
  const { status, output } = await run(process.execPath, [bin, 'completion', 'bash'], {
    limit: LIST_LIMIT_MS,
    cwd: root,
  });
  if (status !== 0) throw new Error(`lockstep completion bash: ${output}`);
  const commands = [...output.matchAll(/^ {4}'([^']*)'\) echo '([^']*)' ;;$/gm)];
  const flags = commands.map(([, path, next]) => [
    path,
    new Set([...next.matchAll(/--(\w+)/g)].map(([, name]) => name)),
  ]);
  return new Map(flags.filter(([, names]) => names.size > 0));
}
