/** For tests: the digits with few images to evaluate on, where it is not the evaluation that is looked at. Training has all of its own. */
import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { RECORD_BYTES } from '../cifar10-data.js';
import { prepareDigits } from '../digits.js';

/** @param validation images in the test file: an odd number, so that batches and replicas do not divide it. @returns data_dir */
export function prepareFewDigits(directory: string, validation = 33): string {
  prepareDigits(directory);
  truncateSync(join(directory, 'cifar-10-batches-bin', 'test_batch.bin'), validation * RECORD_BYTES);
  return directory;
}
