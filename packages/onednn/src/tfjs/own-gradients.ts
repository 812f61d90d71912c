/**
 * Keeps this backend's gradients in use whatever is imported when. The package `@tensorflow/tfjs` registers TensorFlow.js' whole
 * list of gradients once more, over ours if it is imported later, and says nothing.
 *
 * A gradient that a user registers on purpose is accepted. The two are told apart by the order: TensorFlow.js' list comes as a
 * whole and always in the same one, so that what comes before a gradient says whose it is.
 */
import type { GradConfig } from '@tensorflow/tfjs-core';

type Registry = Map<string, GradConfig>;

/** Where tfjs-core keeps what all of its copies in a thread share; see its global_util. */
function registry(): Registry | undefined {
  const space = ((globalThis as { window?: object }).window ?? globalThis) as { _tfGlobals?: Map<string, Registry> };
  return space._tfGlobals?.get('gradRegistry');
}

/** Runs `register`, whose gradients stay in the place of TensorFlow.js' own. */
export function registerForGood(register: () => void): void {
  const all = registry();
  const theirs = new Map(all);
  register();
  if (!all) return;
  const names = [...theirs.keys()];
  /** By the name of ours: what TensorFlow.js' list has before it. */
  const before = new Map<string, string | undefined>();
  for (const [i, name] of names.entries()) if (all.get(name) !== theirs.get(name)) before.set(name, names[i - 1]);
  let last: string | undefined;
  const set = all.set.bind(all);
  all.set = (name, config) => {
    const isFromTheList = last !== undefined && before.get(name) === last;
    last = name;
    return isFromTheList ? all : set(name, config);
  };
}
