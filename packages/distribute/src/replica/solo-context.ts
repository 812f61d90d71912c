/**
 * A context of one replica within a replica: its trainer, reductions and barriers involve nobody else. For what each replica does
 * on its own beside the common work, such as measuring how fast it is when it waits for nobody.
 */
import { joinSharedMemoryGroup } from '../communicator/shared-memory-communicator.js';
import { createSharedMemoryGroup } from '../communicator/shared-memory-group.js';
import { createCrossDeviceOps } from '../cross-device-ops/create.js';
import { ControlBlock } from './control-block.js';
import { CountingCommunicator } from './counting-communicator.js';
import { ReplicaContext } from './replica-context.js';

/** @returns a context on the same device, in a group of one. Not collective. */
export function soloContext({ device }: Pick<ReplicaContext, 'device'>): ReplicaContext {
  const control = ControlBlock.create(1);
  const group = joinSharedMemoryGroup(createSharedMemoryGroup(1), 0);
  return new ReplicaContext({
    replica: 0,
    replicas: 1,
    device,
    communicator: new CountingCommunicator(group, control, 0),
    control,
    crossDeviceOps: createCrossDeviceOps('sharded', 1),
    report: () => {},
  });
}
