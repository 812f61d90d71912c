/**
 * The text file `checkpoint` of a folder: TensorFlow's list of the checkpoints that are there, and which one is the latest
 * (CheckpointState, a protocol buffer in text). `tf.train.latest_checkpoint` reads it.
 */
import { readFileSync } from 'node:fs';
import { basename, isAbsolute, join } from 'node:path';

export const STATE_FILE = 'checkpoint';
const MAX_BYTES = 1_000_000;

/** @param prefixes oldest first, relative to the folder: `model.ckpt-20` */
export function checkpointState(prefixes: readonly string[]): string {
  const line = (field: string, prefix: string) => `${field}: ${JSON.stringify(prefix)}\n`;
  const latest = prefixes.at(-1);
  if (latest === undefined) return '';
  return (
    line('model_checkpoint_path', latest) + prefixes.map((one) => line('all_model_checkpoint_paths', one)).join('')
  );
}

/**
 * Where the latest checkpoint may be, by the folder's state file: where it says, and beside the file, because folders are moved.
 * Empty: there is no such file, or it names none.
 */
export function latestByState(folder: string): string[] {
  let text: string;
  try {
    text = readFileSync(join(folder, STATE_FILE), 'utf8');
  } catch {
    return [];
  }
  const [, name] = /^\s*model_checkpoint_path:\s*"((?:[^"\\\n]|\\.)*)"/m.exec(text.slice(0, MAX_BYTES)) ?? [];
  if (!name) return [];
  const path = name.replace(/\\(.)/g, '$1');
  return [isAbsolute(path) ? path : join(folder, path), join(folder, basename(path))];
}
