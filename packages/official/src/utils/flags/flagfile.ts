/*
 * `--flagfile=PATH`: flags read from a file, one a line, as absl has it. The file's lines take the place of the flag on
 * the command line, so what follows it wins over what the file says. Beyond absl: `--name value` may share a line,
 * a nested relative path is relative to the file that names it, and a file that includes itself is an error.
 */
import { isUtf8 } from 'node:buffer';
import { readFileSync, realpathSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { kindOf, reasonOf } from '../files/file-errors.js';
import { UsageError } from './errors.js';

/** One argument and where it stands, for error messages. */
export interface Argument {
  readonly text: string;
  /** Empty for the command line; ` (run.flags, line 3)` for a flag file. */
  readonly origin: string;
}

/** What the shell has opened for a command. */
const OPENED = /^\/(dev\/(fd\/\d+|stdin)|proc\/self\/fd\/\d+)$/;
const LARGEST = 1_000_000;
const FLAGFILE = /^--?flagfile(?:=(.*))?$/s;

function readLines(file: string, origin: string): string[] {
  const refuse = (why: string): never => {
    throw new UsageError(`flag --flagfile=${file}${origin}: the file cannot be read: ${why}`, {
      flag: 'flagfile',
      value: file,
      remedy: 'Name an existing text file with one flag a line, such as --batch_size=128.',
    });
  };
  let bytes: Buffer = Buffer.alloc(0);
  try {
    const stats = statSync(file);
    // A named pipe would be waited for, perhaps for ever; one that the shell opened (<(…), a pipe into /dev/stdin) ends.
    if (!stats.isFile() && !OPENED.test(file)) refuse(`it is ${kindOf(stats)}`);
    if (stats.size > LARGEST) refuse(`it has ${stats.size} bytes, and flags take at most ${LARGEST}`);
    bytes = readFileSync(file);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    refuse(reasonOf(error));
  }
  const text = bytes.toString('utf8').replace(/^\uFEFF/, '');
  // What is no text would be printed on the terminal as a flag that is not known.
  if (!isUtf8(bytes) || /[^\P{Cc}\t\v\f\r\n]/u.test(text)) refuse('it is not a text file');
  return text.split(/\r?\n/);
}

function expandFile(given: string, base: string, origin: string, open: readonly string[]): Argument[] {
  const homed = given.startsWith('~/') ? path.join(homedir(), given.slice(2)) : given;
  const file = path.resolve(base, homed);
  const lines = readLines(file, origin);
  const real = OPENED.test(file) ? file : realpathSync(file);
  if (open.includes(real)) {
    throw new UsageError(
      `flag --flagfile=${given}${origin}: the file includes itself: ${[...open, real].join(' -> ')}`,
      {
        flag: 'flagfile',
        value: given,
        remedy: 'Remove the --flagfile line that closes the circle.',
      },
    );
  }
  const expanded: Argument[] = [];
  for (const [index, raw] of lines.entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#') || line.startsWith('//')) continue;
    const here = ` (${given}, line ${index + 1})`;
    const split = /^(--?[A-Za-z_][\w-]*)\s+(\S.*)$/s.exec(line);
    const text = split ? `${split[1]}=${split[2]}` : line;
    const nested = FLAGFILE.exec(text);
    if (nested) {
      if (!nested[1]) throw missingPath(here);
      expanded.push(...expandFile(nested[1], path.dirname(file), here, [...open, real]));
    } else {
      expanded.push({ text, origin: here });
    }
  }
  return expanded;
}

function missingPath(origin: string): UsageError {
  return new UsageError(`flag --flagfile${origin}: no path is given`, {
    flag: 'flagfile',
    remedy: 'Write --flagfile=PATH.',
  });
}

/**
 * Replaces every `--flagfile=PATH` and `--flagfile PATH` by the lines of that file, in place, and nested ones as well.
 * Lines that are empty or begin with `#` or `//` are comments. Arguments after `--` stay as they are.
 *
 * @throws UsageError for a file that cannot be read, a missing path, or a circle of files.
 */
export function expandFlagfiles(argv: readonly string[]): Argument[] {
  const expanded: Argument[] = [];
  for (let i = 0; i < argv.length; i++) {
    const text = argv[i]!;
    if (text === '--') {
      expanded.push(...argv.slice(i).map((rest) => ({ text: rest, origin: '' })));
      break;
    }
    const match = FLAGFILE.exec(text);
    if (!match) {
      expanded.push({ text, origin: '' });
      continue;
    }
    const given = match[1] ?? argv[++i];
    if (!given) throw missingPath('');
    expanded.push(...expandFile(given, process.cwd(), '', []));
  }
  return expanded;
}
