/**
 * GPUs as devices for `@lockstep/distribute`, by shape alone: the two packages do not import each other. They meet in a registry that is
 * found by its symbol, so that importing this package is enough, before or after the other one.
 */
import type { AdapterFacts } from './adapter.js';
import { probe } from './adapters.js';
import { LOGICAL_VARIABLE, readSwitches, SOFTWARE_VARIABLE } from './switches.js';

/** A GPU that is there. */
export interface GpuOffer {
  readonly type: 'GPU';
  readonly index: number;
  readonly label: string;
  readonly facts: {
    readonly vendor: string;
    readonly architecture: string;
    readonly api: string;
    readonly software: boolean;
    readonly maxBufferBytes: number;
    readonly maxBindingBytes: number;
    readonly features: readonly string[];
  };
}

/** The adapters that count, each as many times as it is offered: an offer's index is a place in this list. */
export function countedAdapters(adapters: readonly AdapterFacts[] = probe().adapters): AdapterFacts[] {
  const { software, logical } = readSwitches();
  const counted = adapters.filter(({ isSoftware }) => software || !isSoftware);
  return counted.flatMap((adapter) => Array.from({ length: logical }, () => adapter));
}

function offers(): GpuOffer[] {
  return countedAdapters().map((adapter, index) => {
    const {
      name,
      vendor,
      architecture,
      api,
      isSoftware: software,
      maxBufferBytes,
      maxBindingBytes,
      features,
    } = adapter;
    const facts = { vendor, architecture, api, software, maxBufferBytes, maxBindingBytes, features };
    return { type: 'GPU', index, label: name, facts };
  });
}

/** Why there are no more GPUs than are offered, for people; with what to do. */
function remark(): string {
  const { adapters, problem } = probe();
  if (problem !== null) return problem;
  const { software } = readSwitches();
  const [left] = adapters.filter(({ isSoftware }) => isSoftware);
  if (left && !software) {
    return (
      `WebGPU found ${left.name}, which the CPU computes: such a GPU does not count.\n` +
      `help: ${SOFTWARE_VARIABLE}=1 lets it, for a test; it is slower than CPU devices.`
    );
  }
  if (adapters.length > 0) {
    return `help: for a test, ${LOGICAL_VARIABLE}=2 offers each GPU twice; two cards of the same name count as one.`;
  }
  return (
    'WebGPU found no GPU.\n' +
    "help: a driver for Vulkan (Linux: libvulkan1 and the card's own; `vulkaninfo --summary` lists what it sees), Metal or D3D12 is " +
    'needed; in a container, the card and its driver have to be passed in.'
  );
}

/** GPUs that WebGPU finds; each replica's thread loads `backendModule`. */
export const deviceProvider = {
  name: 'webgpu',
  priority: 10,
  types: ['GPU'],
  backendModule: new URL('./device.js', import.meta.url).href,
  devices: offers,
  remark,
} as const;

const REGISTRY = Symbol.for('lockstep.deviceProviders');

/** Offers the devices to strategies of this process, unless the program has decided about this name already. */
export function registerDevices(): void {
  const shared = globalThis as { [REGISTRY]?: Map<string, unknown> };
  shared[REGISTRY] ??= new Map();
  const registry = shared[REGISTRY];
  if (!registry.has(deviceProvider.name)) registry.set(deviceProvider.name, deviceProvider);
}
