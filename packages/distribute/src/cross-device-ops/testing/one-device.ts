/** One rank of the ReductionToOneDevice test: ones, twos and threes add up to sixes, wherever they are summed. */
import type { Communicator } from '../../communicator/communicator.js';
import { ReductionToOneDevice } from '../reduction-to-one-device.js';

export function runScene(communicator: Communicator, _scene: string, { target }: { target: number }): number[] {
  const values = new Float32Array(5).fill(communicator.rank + 1);
  new ReductionToOneDevice(target, 2).allReduce(communicator, values);
  return [...values];
}
