/*
 * `--flagfile=PATH`: flags read from a file, one a line, as absl has it. The file's lines take the place of the flag on
 * the command line, so what follows it wins over what the file says. Beyond absl: `--name value` may share a line,
 * a nested relative path is relative to the file that names it, and a file that includes itself is an error.
 */
import { readFileSync, realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { UsageError } from './errors.js';

/** One argument and where it stands, for error messages. */
export interface Argument {
  readonly text: string;
  /** Empty for the command line; ` (run.flags, line 3)` for a flag file. */
  readonly origin: string;
}

const FLAGFILE = /^--?flagfile(?:=(.*))?$/s;

function readLines(file: string, origin: string): string[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new UsageError(`flag --flagfile=${file}${origin}: the file cannot be read: ${reason}`, {
      flag: 'flagfile',
      value: file,
      remedy: 'Name an existing text file with one flag a line, such as --batch_size=128.',
    });
  }
  return text.replace(/^\uFEFF/, '').split(/\r?\n/);
}

function expandFile(given: string, base: string, origin: string, open: readonly string[]): Argument[] {
  const homed = given.startsWith('~/') ? path.join(homedir(), given.slice(2)) : given;
  const file = path.resolve(base, homed);
  const lines = readLines(file, origin);
  const real = realpathSync(file);
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
