/** What WebGPU tells of each adapter, software ones included. It opens them all, so it runs where that may take its time: see adapters.ts. */
import type { AdapterFacts } from './adapter.js';
import { enumerate, openAdapter } from './dawn.js';

/** Drivers of the CPU, which not all call themselves a fallback. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|microsoft basic render/i;

/** @throws DawnNotFoundError */
export async function readFacts(): Promise<AdapterFacts[]> {
  const all: AdapterFacts[] = [];
  for (const place of await enumerate()) {
    const adapter = await openAdapter(place);
    if (!adapter) continue;
    const { info, limits, features } = adapter;
    const { vendor, architecture, description } = info;
    all.push({
      ...place,
      ...{ vendor, architecture, description },
      isSoftware: info.isFallbackAdapter === true || SOFTWARE.test(`${place.name} ${architecture} ${description}`),
      maxBufferBytes: limits.maxBufferSize,
      maxBindingBytes: limits.maxStorageBufferBindingSize,
      features: [...features].sort(),
    });
  }
  return all;
}
