/**
 * Fetches CIFAR-10 and unpacks it: upstream's official/resnet/cifar10_download_and_extract.py, with resuming, a checksum and
 * mirrors.
 *
 *   lockstep download-cifar10 --data_dir=cifar10
 */
import { existsSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { x as extract, type ReadEntry } from 'tar';
import { countCifar10 } from '../data/cifar10-data.js';
import { DownloadError, download, md5Of } from '../utils/download/download.js';
import { kindOf, reasonOf } from '../utils/files/file-errors.js';
import { makeFolder } from '../utils/files/make-folder.js';
import { requirePath } from '../utils/flags/checks.js';
import { FlagValues, parseFlags, UsageError } from '../utils/flags/core.js';

export const DATA_URL = 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz';
/** From the page of the data set. */
export const DATA_MD5 = 'c32a1d4ab5d03f1284b67883e8d87530';
const FOLDER = 'cifar-10-batches-bin';
const REPORT_MS = 100;
/** Where lines cannot be written over: one for each tenth. */
const STEPS = 10;

export interface DownloadIo {
  readonly out?: (text: string) => void;
  readonly err?: (text: string) => void;
  /** Whether `err` is a terminal, on which progress is one line. Default: whether standard error is. */
  readonly isTerminal?: boolean;
  /** For tests: pause between tries. */
  readonly pauseMs?: number;
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep download-cifar10',
    summary: 'Fetches CIFAR-10 (162 MB) and unpacks it. What was fetched before is not fetched again.',
  });
  const key = true;
  flags.DEFINE_string({
    name: 'data_dir',
    shortName: 'dd',
    default: '/tmp/cifar10_data',
    key,
    help: 'Folder to download to.',
  });
  requirePath(flags, 'data_dir');
  flags.DEFINE_string({
    name: 'url',
    default: DATA_URL,
    key,
    help: 'Where the archive is: the original, or a mirror.',
  });
  flags.DEFINE_string({
    name: 'md5',
    default: DATA_MD5,
    key,
    help: 'Checksum of the archive. An empty text compares nothing.',
  });
  flags.registerValidator(
    'url',
    (url) => /^https?:$/.test(new URL(String(url)).protocol),
    'url should begin with https:// or http://.',
  );
  flags.registerValidator(
    'md5',
    (md5) => /^([0-9a-f]{32})?$/i.test(String(md5)),
    'md5 should be 32 hexadecimal digits.',
  );
  return flags;
}

/** @returns exit status: 0, 1 when it failed, 2 for bad flags */
export async function main(argv: readonly string[], io: DownloadIo = {}): Promise<number> {
  const err = io.err ?? ((text: string) => process.stderr.write(text));
  const flags = defineFlags();
  try {
    const { help } = parseFlags(argv, flags);
    if (help) {
      (io.out ?? ((text) => process.stdout.write(text)))(help.text);
      return 0;
    }
    const md5 = flags.get('md5') as string;
    await downloadAndExtract(flags.get('data_dir') as string, flags.get('url') as string, md5 === '' ? null : md5, io);
    return 0;
  } catch (error) {
    err(`${(error as Error).message}\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}

/**
 * Upstream's download_and_extract: the archive stays beside what comes out of it, and is unpacked every time.
 * @throws DownloadError, DataError, … each with a remedy; then what was unpacked before is untouched.
 */
export async function downloadAndExtract(
  dataDir: string,
  url: string,
  md5: string | null,
  { out, err, isTerminal = process.stderr.isTTY, pauseMs }: DownloadIo = {},
): Promise<void> {
  const say = out ?? ((text: string) => process.stdout.write(text));
  const show = err ?? ((text: string) => process.stderr.write(text));
  const name = basename(new URL(url).pathname);
  const archive = join(dataDir, name);
  const before = existsSync(archive) ? statSync(archive) : null;
  if (before && !before.isFile()) {
    throw new DownloadError(
      `${archive} is ${kindOf(before)}, not a file.\nhelp: remove it, or choose another folder with --data_dir.`,
    );
  }
  if (before && md5 !== null) {
    const found = await md5Of(archive);
    if (found !== md5.toLowerCase()) {
      say(`${archive} has the MD5 ${found}, expected ${md5}: it is fetched again.\n`);
      rmSync(archive);
    }
  }
  if (!existsSync(archive)) {
    const progress = new DownloadProgress(name, show, isTerminal);
    const size = await download({
      url,
      file: archive,
      md5,
      onProgress: (done, total) => progress.update(done, total),
      log: (line) => progress.line(line),
      ...(pauseMs === undefined ? {} : { pauseMs }),
    });
    progress.end();
    say(`Successfully downloaded ${name} ${size} bytes.\n`);
  } else say(`${archive} is there already.\n`);
  await unpack(archive, dataDir);
  const [train, test] = [countCifar10(dataDir, true), countCifar10(dataDir, false)];
  const count = (images: number) => images.toLocaleString('en-US');
  say(
    `Unpacked to ${join(dataDir, FOLDER)}: ${count(train)} images to train on, ${count(test)} to test.\n` +
      `Next: lockstep cifar10 --data_dir=${dataDir} --model_dir=model --resnet_size=20 --train_epochs=10\n`,
  );
}

/** Far above any file of the data set, far below what fills a disk. */
const LARGEST_ENTRY = 2 ** 30;

/**
 * Why an entry is not unpacked; null for plain files and folders, which get plain permissions. Anything else has no business in a data
 * set: a link would lead out of the folder, now or when the files are read.
 */
function refusal(path: string, entry: ReadEntry): string | null {
  const name = JSON.stringify(path);
  const isFolder = entry.type === 'Directory';
  if (!isFolder && entry.type !== 'File' && entry.type !== 'OldFile' && entry.type !== 'ContiguousFile') {
    return `${name} in it is a ${entry.type}, and only files and folders belong there`;
  }
  if (entry.size > LARGEST_ENTRY) return `${name} in it has ${entry.size} bytes, more than any file of the data set`;
  entry.mode = isFolder ? 0o755 : 0o644;
  return null;
}

/** Unpacks beside its final place, and puts it there in one go. */
async function unpack(archive: string, dataDir: string): Promise<void> {
  const temporary = join(dataDir, `.${FOLDER}.${process.pid}.tmp`);
  rmSync(temporary, { recursive: true, force: true });
  try {
    makeFolder(temporary);
    let refused: string | null = null;
    const filter = (path: string, entry: unknown): boolean => {
      refused ??= refusal(path, entry as ReadEntry);
      return refused === null;
    };
    await extract({ file: archive, cwd: temporary, strict: true, filter });
    if (refused !== null) throw new Error(refused);
    if (!existsSync(join(temporary, FOLDER))) {
      const found = readdirSync(temporary).slice(0, 5).join(', ') || 'nothing';
      throw new Error(`it holds ${found}, and no folder ${FOLDER}`);
    }
    rmSync(join(dataDir, FOLDER), { recursive: true, force: true });
    renameSync(join(temporary, FOLDER), join(dataDir, FOLDER));
  } catch (error) {
    throw new DownloadError(
      `${archive} could not be unpacked: ${reasonOf(error)}.\n` +
        ((error as NodeJS.ErrnoException).code === 'ENOSPC'
          ? 'help: make room for 180 MB.'
          : 'help: delete it and run the command again; --url names a mirror.'),
      { cause: error },
    );
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Upstream's line, `>> Downloading name 12.3%`: over itself on a terminal, a few of them elsewhere. */
class DownloadProgress {
  #lastMs = Number.NEGATIVE_INFINITY;
  #lastStep = -1;
  #isOpen = false;

  constructor(
    private readonly name: string,
    private readonly show: (text: string) => void,
    private readonly isTerminal: boolean,
  ) {}

  update(done: number, total: number | null): void {
    const part =
      total === null ? `${(done / 1e6).toFixed(1)} MB` : `${((100 * done) / Math.max(1, total)).toFixed(1)}%`;
    if (this.isTerminal) {
      const now = performance.now();
      if (now - this.#lastMs < REPORT_MS && done !== total) return;
      this.#lastMs = now;
      this.#isOpen = true;
      this.show(`\r>> Downloading ${this.name} ${part}`);
      return;
    }
    const step = total === null ? Math.floor(done / 16e6) : Math.floor((STEPS * done) / Math.max(1, total));
    if (step === this.#lastStep) return;
    this.#lastStep = step;
    this.show(`>> Downloading ${this.name} ${part}\n`);
  }

  line(text: string): void {
    this.end();
    this.show(`${text}\n`);
  }

  end(): void {
    if (this.#isOpen) this.show('\n');
    this.#isOpen = false;
  }
}
