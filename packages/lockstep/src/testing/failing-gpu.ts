/**
 * For tests: the GPUs of @lockstep/webgpu, of which one is lost in the middle of a run, as by a driver that is reset: LOSE_AT names the
 * step in which its values are waited for when it goes. A device module.
 */
import type { BackendSetup, HostAccess } from '@lockstep/distribute';
import { deviceProvider } from '@lockstep/webgpu';
import * as tf from '@tensorflow/tfjs-core';

/** 'gpu:1 3': gpu:1, in its third step. */
const LOSE_AT = process.env.LOSE_AT ?? '';

export default async function setup(device: BackendSetup): Promise<HostAccess> {
  const { default: original } = (await import(deviceProvider.backendModule)) as {
    default: (setup: BackendSetup) => Promise<HostAccess>;
  };
  const access = await original(device);
  let steps = 0;
  return {
    ...access,
    settled() {
      if (`${device.device} ${++steps}` === LOSE_AT) {
        (tf.backend() as unknown as { device: { destroy(): void } }).device.destroy();
      }
      return access.settled();
    },
  };
}
