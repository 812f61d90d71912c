// Tells the suite which backend to test, and in which layout. Runs inside the bundle, before any specification is declared.
import '@tensorflow/tfjs-backend-cpu';
import { setTestEnvs, setupTestFilters } from '@tensorflow/tfjs-core/dist/jasmine_util';
import { OneDnnBackend } from '../dist/index.js';
import { forceLayout } from './force-layout.mjs';

const { backend, layout, include, excluded } = globalThis.lockstepConformance;
if (layout !== null) forceLayout(OneDnnBackend, layout);
setTestEnvs([{ name: `test-${backend}`, backendName: backend, isDataSync: true }]);
if (excluded.length > 0 || include.length > 0) {
  setupTestFilters([{ include: '', excludes: excluded }], (name) => include.some((part) => name.includes(part)));
}
