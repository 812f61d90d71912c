/**
 * TensorFlow.js' `webgpu` backend over one Dawn device, which it watches: a device that is lost, or that could not get memory, goes on
 * taking commands and computes nothing. Whoever waits for values asks {@link GpuBackend.check} first.
 */
import { WebGPUBackend } from '@tensorflow/tfjs-backend-webgpu';
import type { backend_util } from '@tensorflow/tfjs-core';
import type { AdapterPlace } from './adapter.js';
import { openAdapter } from './dawn.js';

/** A GPU that computes no more; the message says which one, and what to do. */
export class GpuError extends Error {
  override readonly name = 'GpuError';
  constructor(
    message: string,
    readonly kind: 'lost' | 'out-of-memory' | 'validation' | 'no-answer',
  ) {
    super(message);
  }
}

/** A GPU that has not answered by then hangs, and its driver has not noticed. */
const LONGEST_MS = 600_000;

const RESUME = 'A run with checkpoints goes on from the last one: give the same command again.';

/** See the file's head. */
export class GpuBackend extends WebGPUBackend {
  #failure: GpuError | null = null;
  #isEnding = false;
  readonly #label: string;

  /** @param label for messages: 'gpu:0 (NVIDIA H200)' */
  constructor(device: GPUDevice, info: GPUAdapterInfo, label: string) {
    super(device, info);
    this.#label = label;
    device.lost.then(({ reason, message }) => {
      // Its own end.
      if (reason === 'destroyed' && this.#isEnding) return;
      this.#fail('lost', `was lost (${reason}): ${message}\nhelp: ${RESUME}`);
    });
    device.onuncapturederror = (event) => {
      // Dawn would print it, and all that follow from it.
      event.preventDefault();
      const [what] = event.error.message.split('\n');
      if (
        event.error.constructor.name === 'GPUOutOfMemoryError' ||
        /exceeds the max buffer size/.test(what as string)
      ) {
        const { numBytesAllocatedInGPU: bytes } = this.memory();
        this.#fail(
          'out-of-memory',
          `is out of memory, with ${Math.round(bytes / 2 ** 20).toLocaleString('en')} MiB in buffers: ${what}\n` +
            `help: a smaller batch, or more GPUs. ${RESUME}`,
        );
      } else this.#fail('validation', `refused a command: ${what}\nhelp: ${RESUME}`);
    };
  }

  #fail(kind: GpuError['kind'], what: string): void {
    this.#failure ??= new GpuError(`The GPU ${this.#label} ${what}`, kind);
  }

  /** @throws GpuError once the device has failed: what it holds is not to be trusted from then on. */
  check(): void {
    if (this.#failure) throw this.#failure;
  }

  /**
   * Waits for something from the GPU.
   * @throws GpuError if it fails meanwhile, or gives no answer for ten minutes
   */
  async answered<T>(waited: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const minutes = LONGEST_MS / 60_000;
        this.#fail(
          'no-answer',
          `has not answered for ${minutes} minutes.\nhelp: a smaller batch gives it less to do in one step. ${RESUME}`,
        );
        reject(this.#failure);
      }, LONGEST_MS);
    });
    try {
      return await Promise.race([waited, late]);
    } catch (error) {
      // Why it could not be read is known to the device.
      if (!this.#failure) await new Promise((resolve) => setImmediate(resolve));
      throw error;
    } finally {
      clearTimeout(timer);
      // What came of a device that has failed is not to be trusted either.
      this.check();
    }
  }

  /** Commands that TensorFlow.js has recorded and not submitted yet; it has no public name for them. */
  get #commands(): GPUCommandEncoder | null {
    return (this as unknown as { commandEncoder: GPUCommandEncoder | null }).commandEncoder;
  }

  /** Commands that are recorded go to the GPU now. */
  submit(): void {
    if (!this.#commands) return;
    this.endComputePassEncoder();
    this.submitQueue();
  }

  /** Records the copy of a buffer's first bytes, behind all that is recorded so far; the source may be given back at once. */
  recordCopy(source: GPUBuffer, target: GPUBuffer, offset: number, bytes: number): void {
    this.ensureCommandEncoderReady();
    this.endComputePassEncoder();
    this.#commands?.copyBufferToBuffer(source, 0, target, offset, bytes);
  }

  override readSync(dataId: object): backend_util.BackendValues {
    const { values, dtype, complexTensorInfos } = this.tensorMap.get(dataId);
    if (values != null || dtype === 'string' || complexTensorInfos) return super.readSync(dataId);
    throw new Error(
      `The tensor's values are on the GPU ${this.#label}, which nobody can wait for in a synchronous call.\n` +
        'help: await tensor.data() instead of tensor.dataSync().',
    );
  }

  override async read(dataId: object): Promise<backend_util.BackendValues> {
    this.check();
    return await this.answered(super.read(dataId));
  }

  override dispose(): void {
    this.#isEnding = true;
    super.dispose();
    this.device.destroy();
  }
}

/** Limits that kernels and tensors grow with: as much as the adapter has. */
const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeWorkgroupsPerDimension',
  'maxComputeWorkgroupSizeX',
  'maxComputeInvocationsPerWorkgroup',
] as const;

/**
 * A device of its own on an adapter, and the backend on it.
 * @param name of the device, for messages: 'gpu:0'
 * @throws Error if the adapter is gone
 */
export async function openBackend(place: AdapterPlace, name: string): Promise<GpuBackend> {
  const label = `${name} (${place.name})`;
  const adapter = await openAdapter(place);
  if (!adapter) {
    throw new Error(
      `The GPU ${label} is not there any more.\nhelp: \`lockstep devices\` lists those that are; see whether its driver was reset.`,
    );
  }
  const requiredFeatures = (['timestamp-query', 'shader-f16'] as const).filter((f) => adapter.features.has(f));
  const requiredLimits = Object.fromEntries(LIMITS.map((limit) => [limit, adapter.limits[limit]]));
  const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
  return asWorker(() => new GpuBackend(device, adapter.info, label));
}

/** TensorFlow.js 4.10's backend is made in a page or a Web Worker only, and asks for the name of the latter's scope. */
function asWorker<T>(make: () => T): T {
  const scope = globalThis as { WorkerGlobalScope?: unknown };
  if ('WorkerGlobalScope' in scope) return make();
  scope.WorkerGlobalScope = Object;
  try {
    return make();
  } finally {
    delete scope.WorkerGlobalScope;
  }
}
