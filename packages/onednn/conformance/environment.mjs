// Tells the suite which backend to test. Runs inside the bundle, before any specification is declared.
import '@tensorflow/tfjs-backend-cpu';
import { setTestEnvs, setupTestFilters } from '@tensorflow/tfjs-core/dist/jasmine_util';
import '../dist/index.js';

const { backend, excluded } = globalThis.lockstepConformance;
setTestEnvs([{ name: `test-${backend}`, backendName: backend, isDataSync: true }]);
if (excluded.length > 0) setupTestFilters([{ include: '', excludes: excluded }], () => false);
