/**
 * `lockstep serve MODEL`: a page on this machine in which a trained model classifies what one gives it. MODEL is an export, or a run's
 * folder, of which an export is made for as long as the page is there. The model computes in the browser, from the same files that any
 * other web server would send.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { classNamesIn } from '@lockstep/official/resnet/export/class-names';
import { exportResnet } from '@lockstep/official/resnet/export/export-resnet';
import type { ModelDescription } from '@lockstep/official/utils/export/export';
import { MODEL_FILE } from '@lockstep/official/utils/export/tfjs-layers-model';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { operandMain } from '../flag-main.js';
import { pageFiles } from '../web/classifier/page-files.js';
import { serveUntilStopped } from '../web/serve-until-stopped.js';
import { contentType, type RequestHandler, startStaticServer } from '../web/static-server.js';

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return operandMain(
    argv,
    flags,
    { count: 1, what: 'one model', remedy: 'Write `lockstep serve MODEL_DIR`.' },
    (model: string) => {
      return serve(model, flags);
    },
  );
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep serve',
    summary:
      'Opens a page on this machine in which a trained model classifies pictures: MODEL is the model_dir of a run, or what `lockstep export` wrote.',
    examples: ['lockstep serve model', 'lockstep serve web-model --port=8080 --open'],
  });
  const key = true;
  flags.DEFINE_integer({
    name: 'port',
    default: 0,
    lowerBound: 0,
    upperBound: 65_535,
    key,
    help: 'Port of 127.0.0.1, which no other machine can reach. 0 takes any that is free.',
  });
  flags.DEFINE_bool({ name: 'open', default: false, key, help: 'Open the page in the browser.' });
  flags.DEFINE_string({
    name: 'data_dir',
    default: null,
    key,
    help: 'Folder of the data that the model was trained on, for the names of the classes, where its checkpoint does not know them.',
  });
  return flags;
}

async function serve(model: string, flags: FlagValues): Promise<number> {
  const value = <T>(name: string) => flags.get(name as never) as unknown as T;
  const temporary = existsSync(join(model, MODEL_FILE)) ? null : mkdtempSync(join(tmpdir(), 'lockstep-serve-'));
  try {
    const folder = temporary === null ? model : join(temporary, 'model');
    if (temporary !== null) {
      const dataDir = value<string | null>('data_dir');
      const labels = dataDir === null ? {} : { labels: classNamesIn(dataDir) };
      exportResnet({ from: model, to: folder, format: 'tfjs', what: 'the model for the page', ...labels });
    }
    const { model: name } = describedIn(folder);
    const server = await startStaticServer({ root: folder, handlers: pageHandlers(), port: value<number>('port') });
    return await serveUntilStopped(server, { title: name, open: value<boolean>('open') });
  } finally {
    if (temporary !== null) rmSync(temporary, { recursive: true, force: true });
  }
}

/** @throws Error for a model that does not say how pictures are prepared for it */
function describedIn(folder: string): ModelDescription {
  const file = join(folder, MODEL_FILE);
  try {
    const { userDefinedMetadata: description } = JSON.parse(readFileSync(file, 'utf8')) as {
      userDefinedMetadata?: ModelDescription;
    };
    if (description?.preprocessing && description.input) return description;
  } catch {
    // Whatever it is, it was not written here.
  }
  throw new Error(
    `${file} was not written by \`lockstep export\`: it does not say how pictures are prepared for it.\n` +
      "help: name the model_dir of a run, or an export of one's own.",
  );
}

/** The page itself, wherever the model lies; an older one that lies beside it does not count. */
function pageHandlers(): Record<string, RequestHandler> {
  const handlers: Record<string, RequestHandler> = {};
  for (const { name, pieces } of pageFiles()) {
    const bytes = Buffer.concat([...pieces]);
    const send: RequestHandler = (_request, response) => {
      response.setHeader('Content-Type', contentType(name));
      response.end(bytes);
    };
    handlers[`/${name}`] = send;
    if (name === 'index.html') handlers['/'] = send;
  }
  return handlers;
}
