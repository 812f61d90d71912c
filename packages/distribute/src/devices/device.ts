/**
 * Devices: what a replica runs on, by name, and who provides them.
 *
 * A provider says which devices there are and names the module that a replica's thread loads to use one; this package
 * knows no backend but TensorFlow.js' own `cpu`. A CPU machine offers as many logical CPU devices as asked for, each owning
 * a share of the cores.
 */
import { host } from '#host';
import type { HostAccess } from './host-access.js';
import { divideCores, physicalCores } from './topology.js';

export type DeviceType = 'CPU' | 'GPU';

/** What a provider knows of a GPU. Plain data. */
export interface DeviceFacts {
  /** 'nvidia', 'amd', 'apple', …. */
  readonly vendor?: string;
  /** 'ampere', 'rdna-3', …. */
  readonly architecture?: string;
  /** Through what it is reached: 'vulkan', 'metal', 'd3d12', 'cuda'. */
  readonly api?: string;
  /** The CPU computes it. */
  readonly software?: boolean;
  /** Bytes of the largest buffer, which is the largest tensor. */
  readonly maxBufferBytes?: number;
  /** Bytes of a buffer that one kernel can see. */
  readonly maxBindingBytes?: number;
  /** By the names of `api`, or of WebGPU. */
  readonly features?: readonly string[];
}

/** One device. It is plain data, so it crosses threads. */
export interface DeviceDescription {
  /** 'cpu:0', 'gpu:1', …: type in lower case, and index. */
  name: string;
  type: DeviceType;
  /** Among the provider's devices, as it counts them; of a CPU device, the number in its name. */
  index: number;
  /** What people call it: 'NVIDIA H200', …. */
  label?: string;
  /** Bytes of its own memory. */
  memoryBytes?: number;
  facts?: DeviceFacts;
  /** Name of the {@link DeviceProvider}. */
  provider: string;
  /** Logical CPUs that the replica's thread is bound to. Empty: not bound. */
  cores: number[];
  /** Compute threads of the replica: physical cores ÷ replicas, or what was asked for. */
  threads: number;
  /** URL of the module that sets the replica's backend. */
  backendModule: string;
}

/** Arguments of a backend module's default export. */
export interface BackendSetup {
  readonly type: DeviceType;
  /** As the provider counts its devices: {@link DeviceOffer.index}. */
  readonly index: number;
  readonly threads: number;
  readonly cores: readonly number[];
  /** 'cpu:0', for messages. */
  readonly device: string;
}

/**
 * A backend module's default export: makes the calling thread's TensorFlow.js engine use this device. What it returns says how its
 * memory is reached; nothing: as the backend itself hands it over, or with what TensorFlow.js offers.
 */
export type BackendSetupFunction = (setup: BackendSetup) => Promise<HostAccess> | Promise<void> | HostAccess | void;

/** A device that is there. */
export interface DeviceOffer {
  readonly type: DeviceType;
  /** 0, 1, …: which of the provider's devices of this type. There may be gaps. */
  readonly index: number;
  /** What people call it: 'NVIDIA H200', …. */
  readonly label?: string;
  /** Bytes of its own memory. */
  readonly memoryBytes?: number;
  readonly facts?: DeviceFacts;
}

/** Offers devices of one kind of backend. */
export interface DeviceProvider {
  readonly name: string;
  /** Of several providers for one type, the highest priority wins. TensorFlow.js' `cpu` has 0. */
  readonly priority: number;
  /** URL of a module whose default export is a {@link BackendSetupFunction}; loaded in each replica's thread. */
  readonly backendModule: string;
  /** What it may offer; it is asked for nothing else, so that finding GPUs costs a program on CPU devices nothing. Absent: both. */
  readonly types?: readonly DeviceType[];
  /** Devices present. For CPU one offer says that there is one: logical CPU devices are made as asked for. */
  devices(): readonly DeviceOffer[];
  /** For people, when more were asked for than it offers: what it found, and what to do (a line that begins with `help:`). */
  remark?(): string;
}

export interface ListDevicesOptions {
  /** Logical CPU devices. Default, and −1: one per physical core. */
  readonly numCpus?: number;
  /** Compute threads of each CPU device. Default: physical cores ÷ numCpus. */
  readonly threadsPerReplica?: number;
}

/** Plain TensorFlow.js: slow on purpose, complete, and always there. */
const cpuProvider: DeviceProvider = {
  name: 'cpu',
  priority: 0,
  backendModule: host.cpuBackend,
  devices: () => [{ type: 'CPU', index: 0 }],
};

/**
 * The one registry of this process. It is found by its symbol, so that a backend that knows nothing of this package puts its
 * provider there when it is imported, before or after this one, unless its name is there already: null is one that was taken out.
 */
const REGISTRY = Symbol.for('lockstep.deviceProviders');
const shared = globalThis as { [REGISTRY]?: Map<string, DeviceProvider | null> };
shared[REGISTRY] ??= new Map();
const registry = shared[REGISTRY];

/** Makes a provider's devices available. A provider of the same name is replaced. */
export function registerDeviceProvider(provider: DeviceProvider): void {
  registry.set(provider.name, provider);
}

/**
 * Takes a provider out, one that its import registered too, and keeps an import that comes later from putting it back:
 * `unregisterDeviceProvider('onednn')` is how a program says that it means TensorFlow.js' `cpu`, which always stays.
 */
export function unregisterDeviceProvider(name: string): void {
  registry.set(name, null);
}

/** Whether the program has said that it means TensorFlow.js' `cpu`, by taking out a faster one. */
export function isCpuMeant(): boolean {
  return [...registry.values()].includes(null) || registry.has(cpuProvider.name);
}

/**
 * All devices of this machine: GPUs that providers found, then logical CPU devices.
 * @throws RangeError if `numCpus` is neither −1 nor a positive integer.
 */
export function listDevices(options: ListDevicesOptions = {}): DeviceDescription[] {
  return [...listGpus(options.threadsPerReplica), ...listCpus(options)];
}

/** What a strategy runs on that is given no names: all GPUs, else 'cpu:0'. */
export function defaultDevices(): string[] {
  const gpus = listGpus();
  return gpus.length > 0 ? gpus.map(({ name }) => name) : ['cpu:0'];
}

function listCpus({ numCpus = -1, threadsPerReplica }: ListDevicesOptions): DeviceDescription[] {
  const cores = physicalCores();
  const count = numCpus === -1 ? cores.length : numCpus;
  if (!Number.isInteger(count) || count < 1) {
    throw new RangeError(
      `numCpus must be a positive integer, or -1 for one CPU device per physical core (here ${cores.length}); got ${numCpus}.`,
    );
  }
  if (threadsPerReplica !== undefined && (!Number.isInteger(threadsPerReplica) || threadsPerReplica < 1)) {
    throw new RangeError(`threadsPerReplica must be a positive integer, got ${threadsPerReplica}.`);
  }
  const provider = providersOf('CPU')[0] ?? cpuProvider;
  return divideCores(cores, count).map((share, index) => ({
    name: `cpu:${index}`,
    type: 'CPU',
    index,
    provider: provider.name,
    cores: share.cpus,
    threads: threadsPerReplica ?? share.cores,
    backendModule: provider.backendModule,
  }));
}

/** Named 0, 1, … in the order of their offers, as TensorFlow names the GPUs that are visible. */
function listGpus(threadsPerReplica = 1): DeviceDescription[] {
  const [provider] = providersOf('GPU');
  if (!provider) return [];
  return offersOf(provider, 'GPU').map(({ index, label, memoryBytes, facts }, i) => ({
    name: `gpu:${i}`,
    type: 'GPU',
    index,
    ...(label !== undefined && { label }),
    ...(memoryBytes !== undefined && { memoryBytes }),
    ...(facts !== undefined && { facts }),
    provider: provider.name,
    cores: [],
    threads: threadsPerReplica,
    backendModule: provider.backendModule,
  }));
}

function providersOf(type: DeviceType): DeviceProvider[] {
  const others = [...registry.values()].filter((provider) => provider !== null);
  return (registry.get(cpuProvider.name) ? others : [cpuProvider, ...others])
    .filter((provider) => offersOf(provider, type).length > 0)
    .sort((a, b) => b.priority - a.priority);
}

/** @throws RangeError if an index is none, or offered twice. */
function offersOf(provider: DeviceProvider, type: DeviceType): DeviceOffer[] {
  if (provider.types && !provider.types.includes(type)) return [];
  const offers = provider.devices().filter((offer) => offer.type === type);
  const seen = new Set<number>();
  for (const { index } of offers) {
    if (Number.isInteger(index) && index >= 0 && !seen.has(index)) seen.add(index);
    else {
      throw new RangeError(
        `The device provider '${provider.name}' offers a ${type} with index ${index}, ${seen.has(index) ? 'twice' : 'which is none'}.\n` +
          'help: each device that it offers needs an index of its own, 0 or more.',
      );
    }
  }
  return offers;
}

/**
 * Our name for a device: 'cpu:0', 'CPU:0', 'device:CPU:0', '/device:CPU:0' and
 * '/job:localhost/replica:0/task:0/device:CPU:0' are all 'cpu:0'; 'cpu' is 'cpu:0'.
 * @throws RangeError for anything else.
 */
export function canonicalDeviceName(name: string): string {
  const match = /^(?:\/?job:localhost)?(?:\/replica:\d+)?(?:\/task:\d+)?\/?(?:device:)?(cpu|gpu)(?::(\d+))?$/i.exec(
    name,
  );
  if (!match) {
    throw new RangeError(
      `'${name}' is not the name of a device.\nhelp: use 'cpu:0', 'cpu:1', … or 'gpu:0', 'gpu:1', ….`,
    );
  }
  return `${(match[1] as string).toLowerCase()}:${Number(match[2] ?? 0)}`;
}

/**
 * Descriptions for a list of names. CPU devices divide the cores among as many as are named.
 * @throws RangeError naming the devices that are not there, and those that are.
 */
export function resolveDevices(names: readonly string[], threadsPerReplica?: number): DeviceDescription[] {
  const canonical = names.map(canonicalDeviceName);
  const numCpus = canonical.filter((name) => name.startsWith('cpu:')).length;
  const gpus = canonical.some((name) => name.startsWith('gpu:')) ? listGpus(threadsPerReplica) : [];
  // CPU devices are logical: whichever indices are named, each gets the next share of the cores.
  const cpus = numCpus > 0 ? listCpus({ numCpus, ...(threadsPerReplica !== undefined && { threadsPerReplica }) }) : [];
  let nextCpu = 0;
  return canonical.map((name) => {
    if (name.startsWith('cpu:')) {
      return { ...(cpus[nextCpu++] as DeviceDescription), name, index: Number(name.slice('cpu:'.length)) };
    }
    const gpu = gpus.find((device) => device.name === name);
    if (gpu) return gpu;
    throw new RangeError(`Device ${name} is not available: ${describeGpus()}`);
  });
}

/** The GPUs here, for an error about one that is not, and what to do: a provider that was asked for them may know more. */
export function describeGpus(): string {
  const gpus = listGpus();
  const found = gpus.map(({ name, label }) => (label === undefined ? name : `${name} (${label})`)).join(', ');
  const remarks = [...registry.values()].flatMap((provider) =>
    provider && (provider.types ?? ['GPU']).includes('GPU') ? (provider.remark?.() ?? []) : [],
  );
  const here = gpus.length === 0 ? 'no GPU is offered here.' : `the GPUs here are ${found}.`;
  if (remarks.length > 0) return [here, ...remarks].join('\n');
  return (
    `${here}\nhelp: GPUs are offered by a device provider: \`npm install @lockstep/webgpu\`, then ` +
    "`import '@lockstep/webgpu';` in the program. CPU devices ('cpu:0', 'cpu:1', …) are there without one."
  );
}
