/** What the package exports, name by name: the backend. A name that comes or goes is a decision, and this list is where it is seen. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import * as index from './index.js';

it('exports what is chosen, and nothing else', () => {
  assert.deepEqual(Object.keys(index).sort(), [
    'LIBRARY_VARIABLE',
    'OneDnnBackend',
    'OneDnnError',
    'OneDnnNotFoundError',
    'OutOfMemoryError',
    'PrecisionError',
    'Runtime',
    'configure',
    'convolutionBound',
    'deviceProvider',
    'fileSystem',
    'kernelNames',
    'librarySearchOrder',
    'loadLibrary',
    'onednn',
    'setRunEagerly',
  ]);
});
