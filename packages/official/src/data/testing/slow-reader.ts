/** Test support: a reader that has to wait, for images of two elements: the example `times` over, and the example. Not part of the package. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExampleReader } from '../data-set.js';

export default function slowReader(source: unknown): ExampleReader {
  const { times } = source as { times: number };
  return {
    async read({ example }, target, offset) {
      await sleep(1 + (example % 3));
      target[offset] = times * example;
      target[offset + 1] = example;
      return example % 3;
    },
  };
}
