// The outside conformance suite: every specification that @tensorflow/tfjs-core ships, run against a backend.
//
//   npm run conformance [-- --backend=onednn|cpu] [--layout=blocked|bf16]
//
// --layout puts every float tensor of 3 to 5 dimensions into a oneDNN layout as soon as it is written (force-layout.mjs).
// scripts/tfjs-specs.mjs bundles and runs them. The last line is `N specs, M failures, K pending`.
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeCounts, runSpecs } from '../../../scripts/tfjs-specs.mjs';
import { EXCLUDED, LAYOUTS } from './excluded.mjs';

const backend = process.argv.find((word) => word.startsWith('--backend='))?.split('=')[1] ?? 'onednn';
if (backend !== 'onednn' && backend !== 'cpu') {
  console.error(`--backend=${backend}: give onednn or cpu.`);
  process.exit(2);
}
const layout = process.argv.find((word) => word.startsWith('--layout='))?.split('=')[1] ?? null;
if (layout !== null && (backend !== 'onednn' || !Object.hasOwn(LAYOUTS, layout))) {
  console.error(`--layout=${layout}: give blocked or bf16, with the backend onednn.`);
  process.exit(2);
}
const { excluded, include } = layout === null ? { excluded: EXCLUDED, include: [] } : LAYOUTS[layout];
const settings = { backend, layout, include, excluded: excluded.map(([name]) => name), forced: 0 };
const folder = dirname(fileURLToPath(import.meta.url));
const { counts, failed, overallStatus } = await runSpecs({ folder, external: ['koffi'], settings });
for (const [name, reason] of excluded) console.log(`excluded: ${name}: ${reason}`);
for (const { name } of failed) console.log(`failed: ${name}`);
if (layout !== null) console.log(`${settings.forced} tensors were put into the layout ${layout}`);
console.log(describeCounts(counts));
process.exitCode = overallStatus === 'passed' || (counts.failures === 0 && counts.specs > 4000) ? 0 : 1;
