/**
 * Dawn, the WebGPU of Chromium, in this thread: loaded once, from the package `webgpu`, and put where TensorFlow.js' backend looks for it
 * (`navigator.gpu` and WebGPU's constants). It also knows how Dawn is made to tell all adapters of a machine, which WebGPU cannot.
 */
import { type AdapterPlace, DawnNotFoundError } from './adapter.js';

interface Dawn {
  readonly create: (flags: string[]) => GPU;
  readonly globals: Readonly<Record<string, unknown>>;
}

let dawn: Dawn | null = null;

/**
 * Every instance of Dawn that this thread has made. Its events are taken in by JavaScript's loop, which holds no reference: one that is
 * collected while a device of its lives, or a promise of its waits, is read after it was freed, and the process dies of it.
 */
const instances: GPU[] = [];

/** @param flags of Dawn's Node binding: 'backend=vulkan' */
function instance({ create }: Dawn, flags: string[]): GPU {
  const gpu = create(flags);
  instances.push(gpu);
  return gpu;
}

/** @throws DawnNotFoundError with what is missing */
async function load(): Promise<Dawn> {
  if (dawn) return dawn;
  try {
    dawn = (await import('webgpu')) as unknown as Dawn;
  } catch (error) {
    throw new DawnNotFoundError(
      `Dawn could not be loaded for ${process.platform}-${process.arch}: ${(error as Error).message}\n` +
        'help: npm install webgpu; it brings Dawn for Linux (glibc) and Windows on x64 and arm64, and for macOS.',
      { cause: error },
    );
  }
  return dawn;
}

/** What Dawn computes with; its others (OpenGL, D3D11, null) offer the same hardware again, or none. */
const APIS = ['vulkan', 'metal', 'd3d12'];

/**
 * All adapters, in Dawn's order. Dawn gives the first one whose name contains what is asked for: of two that it cannot tell apart by that,
 * such as two cards of one model, the second is left out.
 */
export async function enumerate(): Promise<AdapterPlace[]> {
  const dawn = await load();
  try {
    // Asked for an adapter that nobody has, Dawn answers with those that there are.
    await instance(dawn, ['adapter=\u{1f}']).requestAdapter();
  } catch (answer) {
    const lines = String((answer as Error).message).matchAll(/backend: '([^']*)', name: '(.*)'$/gm);
    const places = [...lines].map(([, api, name]) => ({ api: api as string, name: name as string }));
    return places.filter(
      (place, i) =>
        APIS.includes(place.api) &&
        places.findIndex(({ api, name }) => api === place.api && name.includes(place.name)) === i,
    );
  }
  return [];
}

/** One of them, or null if it is gone. */
export async function openAdapter({ api, name }: AdapterPlace): Promise<GPUAdapter | null> {
  const dawn = await load();
  const gpu = instance(dawn, [`backend=${api}`, `adapter=${name}`]);
  install(gpu, dawn.globals);
  return await gpu.requestAdapter();
}

function install(gpu: GPU, globals: Dawn['globals']): void {
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  const scope = globalThis as { navigator?: object };
  // Node has one from version 21 on.
  if (!scope.navigator) Object.defineProperty(scope, 'navigator', { value: {}, configurable: true, writable: true });
  Object.defineProperty(scope.navigator, 'gpu', { value: gpu, configurable: true });
}
