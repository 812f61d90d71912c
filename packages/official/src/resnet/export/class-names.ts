/** What classes are called, by the folder of the data that a model was trained on: ImageNet's or one's own pictures, CIFAR-10, the digits. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cifar10Names } from '../../data/cifar10-data.js';
import { LABELS_FILE, readClassNames } from '../../data/imagenet-data.js';

/** @throws DataError if the folder is no data set, or its list of names none */
export function classNamesIn(dataDir: string): readonly string[] {
  return existsSync(join(dataDir, LABELS_FILE)) ? (readClassNames(dataDir) as string[]) : cifar10Names(dataDir);
}
