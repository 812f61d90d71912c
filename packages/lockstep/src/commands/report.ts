/** `lockstep report MODEL_DIR`: what the board shows, as one file to send to somebody. */
import { readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { reasonOf } from '@lockstep/official/utils/files/file-errors';
import { syncFolder, writeSynced } from '@lockstep/official/utils/files/synced-files';
import { FlagValues, UsageError } from '@lockstep/official/utils/flags/core';
import { makeReport, REPORT_BEGIN } from '../board/report.js';
import { operandMain } from '../flag-main.js';

declare module '@lockstep/official/utils/flags/flag-values' {
  interface FlagTypes {
    out: string;
    runs: string;
  }
}

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return operandMain(
    argv,
    flags,
    {
      count: 1,
      what: 'one folder',
      remedy: 'Write `lockstep report MODEL_DIR`; a folder of several model folders makes one report of all.',
    },
    async (folder: string) => {
      const { out, runs } = flags.FLAGS;
      const file = out === '' ? `${basename(resolve(folder)) || 'runs'}-report.html` : out;
      refuseToReplace(file);
      const report = await makeReport(folder, runs === '' ? null : patternOf(runs));
      writeWhole(file, report.html);
      for (const note of report.notes) process.stderr.write(`lockstep report: ${note}\n`);
      const size = (Buffer.byteLength(report.html) / 1e6).toFixed(1);
      process.stdout.write(`${file}: ${report.runs} run${report.runs === 1 ? '' : 's'}, ${size} MB\n`);
      return 0;
    },
  );
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep report',
    summary:
      'Writes what `lockstep board` shows of the runs below a folder into one HTML file, which needs no network and nothing beside it.',
    examples: ['lockstep report model', 'lockstep report runs --runs=resnet --out=resnets.html'],
  });
  const key = true;
  flags.DEFINE_string({
    name: 'out',
    default: '',
    key,
    help: "File to write; a report that is there is replaced, and nothing else. Empty: the folder's name with -report.html, here.",
  });
  flags.DEFINE_string({
    name: 'runs',
    default: '',
    key,
    help: 'Regular expression for the names of the runs that are in it; empty: all.',
  });
  return flags;
}

function patternOf(text: string): RegExp {
  try {
    return new RegExp(text, 'i');
  } catch (error) {
    throw new UsageError(`flag --runs=${text}: ${(error as Error).message}`, {
      flag: 'runs',
      value: text,
      remedy: 'Write a regular expression of JavaScript, or a part of the names.',
    });
  }
}

/** @throws Error where something lies there that is no report */
function refuseToReplace(file: string): void {
  const stats = statSync(file, { throwIfNoEntry: false });
  if (!stats) return;
  if (stats.isFile() && readFileSync(file, 'utf8').startsWith(REPORT_BEGIN)) return;
  throw new Error(`${file} is there, and is no report of lockstep's.\nhelp: choose another --out.`);
}

/** Under another name first: nobody finds half a report. */
function writeWhole(file: string, text: string): void {
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    writeSynced(temporary, [Buffer.from(text)]);
    renameSync(temporary, file);
    syncFolder(dirname(file));
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new Error(`${file} cannot be written: ${reasonOf(error)}.\nhelp: choose another --out.`, { cause: error });
  }
}
