/**
 * `file://` for `model.save`, `tf.loadLayersModel` and `tf.io.copyModel` on Node, which TensorFlow.js leaves to tfjs-node. A folder
 * with model.json and weights.bin, as tfjs-node and the converter write it; either's are read.
 *
 * A model is saved whole or not at all. model.json decides: it is replaced in one step, and names weights that are complete by
 * then, so whoever dies in between, the folder holds the old model or the new one.
 */
import { copyFile, link, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { io, util } from '@tensorflow/tfjs-core';

const SCHEME = 'file://';
const MODEL = 'model.json';
const WEIGHTS = 'weights.bin';
/** Files in the making: whose they are, and a number. Those of a process that is gone are removed by the next save. */
const UNFINISHED = /^(?:model|weights)\.(\d+)-\d+\.tmp$/;
/** Bytes that are read or written at a time; Node's limit is 2 GiB. */
const CHUNK = 2 ** 28;

let made = 0;
/** By folder: saves wait for each other. */
const saving = new Map<string, Promise<unknown>>();

/**
 * Saves to a folder, which is made if need be, and loads from it or from a model.json.
 *
 * @param path Of the folder or of model.json, as it is: `%20` stays `%20`. Relative ones are to the working directory.
 * @throws Error that names the path, and says what to do, if a model cannot be saved or there is none.
 */
export function fileSystem(path: string): io.IOHandler {
  if (typeof path !== 'string' || path === '') {
    throw new Error(
      `'${SCHEME}${path}' has no path.\nhelp: file:// and a path, such as file://./my-model or file:///tmp/my-model.`,
    );
  }
  const at = resolve(path);
  return { save: (artifacts) => inTurn(at, () => save(at, artifacts)), load: () => load(at) };
}

/** Makes `file://` known to TensorFlow.js, once per thread. Whoever else knows it, such as tfjs-node, goes first. */
export function registerFileSystem(): void {
  let isAsking = false;
  const route =
    (handlersOf: (url: string) => io.IOHandler[]) =>
    (url: string | string[]): io.IOHandler => {
      const none = null as unknown as io.IOHandler;
      const [only] = [url].flat();
      if (isAsking || [url].flat().length !== 1 || !only?.startsWith(SCHEME)) return none;
      isAsking = true;
      try {
        return handlersOf(only).length > 0 ? none : fileSystem(only.slice(SCHEME.length));
      } finally {
        isAsking = false;
      }
    };
  io.registerSaveRouter(route((url) => io.getSaveHandlers(url)));
  io.registerLoadRouter(route((url) => io.getLoadHandlers(url)));
}

async function inTurn<T>(folder: string, run: () => Promise<T>): Promise<T> {
  const own = (saving.get(folder) ?? Promise.resolve()).catch(() => {}).then(run);
  saving.set(folder, own);
  try {
    return await own;
  } finally {
    if (saving.get(folder) === own) saving.delete(folder);
  }
}

// Saving ---------------------------------------------------------------------------------------------------------------------

async function save(folder: string, artifacts: io.ModelArtifacts): Promise<io.SaveResult> {
  if (artifacts.modelTopology instanceof ArrayBuffer) {
    throw new Error(`The model's topology is binary, which '${folder}' cannot hold: it is saved as JSON.`);
  }
  const found = await stat(folder).catch(() => null);
  if (found ? !found.isDirectory() : folder.endsWith(MODEL)) {
    throw new Error(
      `A model is saved to a folder, but '${folder}' is ${found ? 'something else' : 'named like a file'}.\n` +
        `help: model.save('${SCHEME}${dirname(folder)}') writes ${MODEL} and ${WEIGHTS} there.`,
    );
  }
  try {
    await makeFolder(folder);
    await write(folder, artifacts);
  } catch (error) {
    throw new Error(
      `The model was not saved to '${folder}': ${(error as Error).message}.\nhelp: what was there before is still there. ${remedyOf(error)}`,
      { cause: error },
    );
  }
  return { modelArtifactsInfo: io.getModelArtifactsInfoForJSON(artifacts) };
}

/** Node's own `mkdir` with `recursive` does not come back where a folder is there and takes no other (`/proc`). */
async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const statsOf = (path: string) => stat(path).catch(() => null);
    if (code === 'EEXIST' && (await statsOf(folder))?.isDirectory()) return;
    if (code !== 'ENOENT' || (await statsOf(dirname(folder)))) throw error;
    await makeFolder(dirname(folder));
    await makeFolder(folder);
  }
}

function remedyOf(error: unknown): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return 'Make room on that disk, or save elsewhere.';
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return 'Save to a folder that this user may write to.';
    case 'ENOTDIR':
    case 'EEXIST':
      return 'A part of the path is a file; give another path.';
    default:
      return 'Save again, or elsewhere.';
  }
}

async function write(folder: string, artifacts: io.ModelArtifacts): Promise<void> {
  const used = await weightFilesOf(folder);
  await sweep(folder, used);
  const { weightData, weightSpecs, ...rest } = artifacts;
  const describe = (file: string) => {
    const weightsManifest = weightData === undefined ? undefined : [{ paths: [file], weights: weightSpecs }];
    return Buffer.from(JSON.stringify({ ...rest, weightsManifest }));
  };
  if (weightData === undefined) {
    await replace(join(folder, MODEL), [describe('')]);
    return;
  }
  const pieces = [weightData].flat().map((buffer) => new Uint8Array(buffer));
  if (!used.includes(WEIGHTS)) {
    await replace(join(folder, WEIGHTS), pieces);
    await replace(join(folder, MODEL), [describe(WEIGHTS)]);
    // The present model's weights had no other name yet.
    for (const name of used) if (UNFINISHED.test(name)) await rm(join(folder, name), { force: true });
    return;
  }
  // The weights that are there belong to the model that is there, until the new one is.
  const spare = unfinished('weights');
  try {
    await writeFile(join(folder, spare), pieces);
    await replace(join(folder, MODEL), [describe(spare)]);
  } catch (error) {
    await rm(join(folder, spare), { force: true });
    throw error;
  }
  // From here on the model is saved; what is left is to give the weights their usual name.
  try {
    const other = join(folder, unfinished('weights'));
    await link(join(folder, spare), other).catch(() => copyFile(join(folder, spare), other));
    await rename(other, join(folder, WEIGHTS));
    await replace(join(folder, MODEL), [describe(WEIGHTS)]);
    await rm(join(folder, spare), { force: true });
  } catch {
    // The next save does it.
  }
}

const unfinished = (what: string) => `${what}.${process.pid}-${made++}.tmp`;

/** Puts a whole file in the place of the old one, if there is one. */
async function replace(path: string, pieces: readonly Uint8Array[]): Promise<void> {
  const temporary = join(dirname(path), unfinished('model'));
  try {
    await writeFile(temporary, pieces);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

async function writeFile(path: string, pieces: readonly Uint8Array[]): Promise<void> {
  const file = await open(path, 'w');
  try {
    for (const piece of pieces) {
      for (let done = 0; done < piece.length; ) {
        done += (await file.write(piece, done, Math.min(CHUNK, piece.length - done))).bytesWritten;
      }
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/** So that the new name outlasts a power cut. Not every system can. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => null);
  await handle?.sync().catch(() => {});
  await handle?.close();
}

/** Files that the folder's present model has its weights in. */
async function weightFilesOf(folder: string): Promise<string[]> {
  try {
    const { weightsManifest } = JSON.parse(await readFile(join(folder, MODEL), 'utf8')) as io.ModelJSON;
    return weightsManifest?.flatMap(({ paths }) => paths) ?? [];
  } catch {
    return [];
  }
}

/** Removes what saves left behind whose process was killed. */
async function sweep(folder: string, used: readonly string[]): Promise<void> {
  for (const name of await readdir(folder)) {
    const pid = Number(UNFINISHED.exec(name)?.[1]);
    if (pid > 0 && !isAlive(pid) && !used.includes(name)) await rm(join(folder, name), { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

// Loading --------------------------------------------------------------------------------------------------------------------

async function load(path: string): Promise<io.ModelArtifacts> {
  const found = await stat(path).catch(() => null);
  const file = found?.isDirectory() ? join(path, MODEL) : path;
  for (let again = true; ; again = false) {
    const model = await readModel(file);
    try {
      return await io.getModelArtifactsForJSON(model, (manifest) => readWeights(file, manifest));
    } catch (error) {
      // A save in another process may have removed the weights that its predecessor named.
      if (!again || (error as { cause?: NodeJS.ErrnoException }).cause?.code !== 'ENOENT') throw error;
    }
  }
}

async function readModel(file: string): Promise<io.ModelJSON> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw new Error(
      `There is no model at '${file}': ${(error as Error).message}.\n` +
        `help: give the ${MODEL} that model.save('${SCHEME}…') wrote, or its folder.`,
      { cause: error },
    );
  }
  let model: io.ModelJSON | null = null;
  try {
    model = JSON.parse(text) as io.ModelJSON | null;
  } catch (error) {
    throw new Error(`'${file}' is not JSON: ${(error as Error).message}.\nhelp: give the ${MODEL} of a saved model.`, {
      cause: error,
    });
  }
  const { modelTopology = null, weightsManifest = null } = model ?? {};
  if (modelTopology === null && weightsManifest === null) {
    throw new Error(
      `'${file}' has neither modelTopology nor weightsManifest.\nhelp: give the ${MODEL} of a saved model.`,
    );
  }
  return model as io.ModelJSON;
}

async function readWeights(
  model: string,
  manifest: io.WeightsManifestConfig,
): Promise<[io.WeightsManifestEntry[], ArrayBuffer[]]> {
  const buffers: ArrayBuffer[] = [];
  for (const { paths, weights } of manifest) {
    const files = paths.map((path) => join(dirname(model), path));
    let length = 0;
    for (const file of files) {
      const buffer = await readWhole(file, model);
      buffers.push(buffer);
      length += buffer.byteLength;
    }
    const expected = byteLengthOf(weights);
    if (expected === null || expected === length) continue;
    throw new Error(
      `${files.map((file) => `'${file}'`).join(', ')}: ${length} bytes, but '${model}' has ${expected} bytes of weights.\n` +
        'help: a file was cut short, or belongs to another model; copy or save the model again.',
    );
  }
  return [io.getWeightSpecs(manifest), buffers];
}

async function readWhole(path: string, model: string): Promise<ArrayBuffer> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const bytes = new Uint8Array(size);
      for (let done = 0; done < size; ) {
        const { bytesRead } = await file.read(bytes, done, Math.min(CHUNK, size - done), done);
        if (bytesRead === 0) throw new Error(`it ends after ${done} of ${size} bytes`);
        done += bytesRead;
      }
      return bytes.buffer;
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new Error(
      `The weights '${path}', which '${model}' names, cannot be read: ${(error as Error).message}.\n` +
        'help: they lie beside it; copy the whole folder.',
      { cause: error },
    );
  }
}

/** Bytes of the weights; null if there is text among them, which says its length itself. */
function byteLengthOf(weights: readonly io.WeightsManifestEntry[]): number | null {
  let bytes = 0;
  for (const { shape, dtype, quantization } of weights) {
    if (dtype === 'string') return null;
    const each = quantization?.dtype ?? dtype;
    const size = { float16: 2, uint16: 2, uint8: 1, bool: 1, complex64: 8, float32: 4, int32: 4 }[each as string];
    if (size === undefined) return null;
    bytes += util.sizeFromShape(shape) * size;
  }
  return bytes;
}
