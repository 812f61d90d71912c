/** What the package exports, name by name: the official programs as a library. A name that comes or goes is a decision, and this list is where it is seen. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import * as index from './index.js';

it('exports what is chosen, and nothing else', () => {
  assert.deepEqual(Object.keys(index).sort(), [
    'BaseBenchmarkLogger',
    'CIFAR10_RECIPE',
    'DataError',
    'FlagValues',
    'IMAGENET_RECIPE',
    'QUANTIZATIONS',
    'UsageError',
    'cifar10Main',
    'cifar10Plan',
    'createScreen',
    'defineCifarFlags',
    'defineImagenetFlags',
    'downloadCifar10Main',
    'exportResnet',
    'imagenetMain',
    'imagenetPlan',
    'kerasCifar10Main',
    'kerasImagenetMain',
    'openCifar10',
    'parseFlags',
    'resnetMain',
    'runProgram',
    'summaryFiles',
    'tensorBoard',
  ]);
});
