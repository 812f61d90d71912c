/** `lockstep completion bash|zsh|fish`: prints what that shell needs to complete commands, flags and their values. */
import { COMMANDS, type Entry } from '../cli.js';
import { completionScript, INSTALL, type Shell } from '../completion/scripts.js';
import { flagWords, type Words } from '../completion/words.js';
import { BENCHMARKS } from './bench.js';

const SHELLS = Object.keys(INSTALL) as Shell[];

const HELP = `Usage: lockstep completion ${SHELLS.join('|')}

Prints a script by which the shell completes commands, flags and their values. To use it:

${SHELLS.map((shell) => `  ${INSTALL[shell]}`).join('\n')}
`;

export async function main(argv: readonly string[]): Promise<number> {
  const [shell, ...rest] = argv;
  if (shell === undefined || shell.startsWith('--help')) {
    process.stdout.write(HELP);
    return 0;
  }
  if (!SHELLS.includes(shell as Shell) || rest.length > 0) {
    const what = rest.length > 0 ? `one shell, not '${argv.join(' ')}'` : `no script for '${shell}'`;
    process.stderr.write(`lockstep completion: ${what}.\nhelp: lockstep completion ${SHELLS.join('|')}\n`);
    return 2;
  }
  process.stdout.write(completionScript(shell as Shell, await allWords()));
  return 0;
}

/** Of all commands and benchmarks. */
export async function allWords(): Promise<Words[]> {
  const words: Words[] = [
    { path: '', summary: '', commands: [...Object.keys(COMMANDS), 'version', 'help'], flags: [] },
    { path: 'version', summary: 'Print the version.', commands: [], flags: [] },
    { path: 'help', summary: 'Print the commands.', commands: [], flags: [] },
  ];
  const add = async (path: string, { summary, load }: Entry) => {
    const nested = { bench: Object.keys(BENCHMARKS), completion: SHELLS }[path] ?? [];
    const { defineFlags } = await load();
    words.push({ path, summary, commands: nested, flags: flagWords(defineFlags?.()) });
  };
  for (const [name, entry] of Object.entries(COMMANDS)) await add(name, entry);
  for (const [name, entry] of Object.entries(BENCHMARKS)) await add(`bench ${name}`, entry);
  return words;
}
