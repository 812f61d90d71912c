// The outside conformance suite for what this package adds: specifications that @tensorflow/tfjs-core ships, of the operations whose kernels or
// gradients are ours, run on the first GPU that counts.
//
//   LOCKSTEP_SOFTWARE_GPU=1 node packages/webgpu/conformance/run.mjs
//
// scripts/tfjs-specs.mjs bundles and runs them. The last line is `N specs, M failures, K pending`.
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeCounts, runSpecs } from '../../../scripts/tfjs-specs.mjs';

/** Parts of their names. */
const OPERATIONS = ['conv2d', 'batchNorm', 'relu', 'moments', 'add ', 'customGrad', 'variable'];

const folder = dirname(fileURLToPath(import.meta.url));
const { counts, failed } = await runSpecs({ folder, external: ['webgpu'], settings: { include: OPERATIONS } });
for (const { name, message } of failed) console.log(`failed: ${name}: ${message}`);
console.log(describeCounts(counts));
process.exitCode = counts.failures === 0 && counts.specs > 100 ? 0 : 1;
process.exit();
