/**
 * `lockstep init DIR`: writes a small project that trains on all cores, shows how far it is, and saves its model. It is whole or not
 * there: what exists already is never written over.
 */
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import { makeFolder } from '@lockstep/official/utils/files/make-folder';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { operandMain } from '../flag-main.js';
import { projectFiles } from '../init/project-files.js';

export function main(argv: readonly string[]): Promise<number> {
  return operandMain(
    argv,
    defineFlags(),
    { count: 1, what: 'one folder', remedy: 'Write `lockstep init my-project`.' },
    (folder: string) => {
      writeProject(folder);
      process.stdout.write(next(folder));
      return 0;
    },
  );
}

export function defineFlags(): FlagValues {
  return new FlagValues({
    program: 'lockstep init',
    summary:
      'Writes a small project into a new or empty folder: it trains a network on all cores of this machine, shows progress, and saves.',
    examples: ['lockstep init my-project'],
  });
}

/**
 * @param folder new, or empty but for git's own
 * @throws Error naming what is there already, or why nothing can be written; then nothing of it is left.
 */
export function writeProject(folder: string): void {
  const target = resolve(folder);
  const isThere = existsSync(target);
  if (isThere && !statSync(target).isDirectory())
    throw new Error(`${folder} is no folder.\nhelp: lockstep init another-name`);
  const found = isThere ? readdirSync(target).filter((name) => name !== '.git') : [];
  if (found.length > 0) {
    const more = found.length > 3 ? ` and ${found.length - 3} more` : '';
    throw new Error(
      `${folder} is not empty: it has ${found.slice(0, 3).join(', ')}${more}. Nothing was written.\nhelp: lockstep init another-name`,
    );
  }
  const written: string[] = [];
  try {
    makeFolder(target);
    for (const [name, text] of Object.entries(projectFiles(packageName(target), versions()))) {
      const path = join(target, name);
      writeFileSync(path, text, { flag: 'wx' });
      written.push(path);
    }
  } catch (error) {
    for (const path of written) rmSync(path, { force: true });
    throw new Error(
      `${folder} cannot be written to: ${(error as Error).message}.\nhelp: choose a folder that you may write to.`,
      { cause: error },
    );
  }
}

/** What npm takes for a name, of a folder's. */
function packageName(target: string): string {
  const name = basename(target)
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, '-')
    .replaceAll(/^[._-]+|-+$/g, '');
  return name === '' ? 'my-project' : name;
}

/** This package's own, and those of TensorFlow.js that it was tested with. */
function versions(): { lockstep: string; tensorflow: string } {
  const file = new URL('../../package.json', import.meta.url);
  const { version, dependencies } = JSON.parse(readFileSync(file, 'utf8')) as {
    version: string;
    dependencies: Record<string, string>;
  };
  return { lockstep: version, tensorflow: dependencies['@tensorflow/tfjs-core'] as string };
}

function next(folder: string): string {
  const path = relative('.', resolve(folder));
  return `Wrote ${path === '' ? 'a project' : path}: train.ts is the program, README.md says what it does.

${path === '' ? '' : `  cd ${path}\n`}  npm install
  npm start
`;
}
