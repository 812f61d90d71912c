/**
 * For tests: a device that cannot be read at once, as WebGPU's: what kernels compute stays there, and arrives some turns of the event
 * loop after it was asked for, the last first. Its module hands over a HostAccess whose settled() is a promise.
 * LOCKSTEP_TEST_PROVIDER=<URL of this file> runs other suites on it.
 */
import type * as tf from '@tensorflow/tfjs-core';
import type { DeviceProvider } from '../device.js';
import { type HostAccess, plainAccess } from '../host-access.js';
import { CopyingBackend, useBackend } from './copying-device.js';

export const deviceProvider: DeviceProvider = {
  name: 'distant',
  priority: 100,
  backendModule: import.meta.url,
  devices: () => [{ type: 'CPU', index: 0 }],
};

type Values = tf.backend_util.BackendValues;

class DistantBackend extends CopyingBackend {
  /** Data that kernels have made. */
  readonly #distant = new WeakSet<object>();
  /** Kernels read where they compute, by {@link bufferSync}. */
  #isKernel = false;

  override makeTensorInfo(shape: number[], dtype: tf.DataType, values?: Values | string[]): tf.TensorInfo {
    const info = super.makeTensorInfo(shape, dtype, values);
    this.#distant.add(info.dataId);
    return info;
  }

  override bufferSync<R extends tf.Rank, D extends tf.DataType>(tensor: tf.TensorInfo): tf.TensorBuffer<R, D> {
    this.#isKernel = true;
    try {
      return super.bufferSync(tensor);
    } finally {
      this.#isKernel = false;
    }
  }

  override readSync(dataId: object): Values {
    if (!this.#isKernel && this.#distant.has(dataId))
      throw new Error('The values are on a distant device; use data() instead of dataSync().');
    return super.readSync(dataId);
  }

  override async read(dataId: object): Promise<Values> {
    return super.readSync(dataId);
  }
}

/** Values on their way, in the order in which they were asked for. */
let underWay: { readonly values: Promise<Values[]>; readonly arrive: (values: Values[]) => void }[] = [];

function fetch(tensors: readonly tf.Tensor[], arrive: (values: Values[]) => void): void {
  underWay.push({ values: Promise.all(tensors.map((tensor) => tensor.data())), arrive });
}

async function arriveAll(): Promise<void> {
  const all = underWay;
  underWay = [];
  for (const { values, arrive } of all.reverse()) {
    await new Promise((resolve) => setImmediate(resolve));
    arrive(await values);
  }
}

const access: HostAccess = {
  ...plainAccess(false),
  read: (tensor, target, landed) =>
    fetch([tensor], ([values]) => {
      target.set(values as Float32Array);
      landed?.();
    }),
  settled: () => (underWay.length > 0 ? arriveAll() : undefined),
  observe: (tensors, observer) => {
    if (tensors.length === 0) observer();
    else fetch(tensors, (values) => observer(...(values as never[])));
  },
};

/** The device module. */
export default async function setup(): Promise<HostAccess> {
  await useBackend('distant', () => new DistantBackend());
  return access;
}
