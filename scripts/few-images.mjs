// A CIFAR-10 of few images, in the format of the real one: for commands of the documentation that are run to see that they run. Labels
// are in turns; pixels are a ramp of their own for each label.
//
//   node scripts/few-images.mjs FOLDER [images in each of the six files, default 10]
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, count = '10'] = process.argv.slice(2);
const RECORD_BYTES = 1 + 3 * 32 * 32;

const records = new Uint8Array(Number(count) * RECORD_BYTES).map((_, i) => {
  const label = Math.floor(i / RECORD_BYTES) % 10;
  const at = i % RECORD_BYTES;
  return at === 0 ? label : (at * (label + 1)) % 256;
});
mkdirSync(folder, { recursive: true });
for (const name of ['test_batch', ...[1, 2, 3, 4, 5].map((i) => `data_batch_${i}`)]) {
  writeFileSync(join(folder, `${name}.bin`), records);
}
