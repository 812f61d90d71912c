/**
 * A context of one replica within a replica: its trainer, reductions and barriers involve nobody else. For what each replica does
 * on its own beside the common work, such as measuring how fast it is when it waits for nobody.
 */
import { joinSharedMemoryGroup } from '../communicator/shared-memory-communicator.js';
import { createSharedMemoryGroup } from '../communicator/shared-memory-group.js';
import { createCrossDeviceOps } from '../cross-device-ops/create.js';
import { Context } from './context.js';
import { ControlBlock } from './control-block.js';
import { localParts } from './local-parts.js';
import type { ReplicaContext } from './replica-context.js';

/** @returns a context on the same device, in a group of one. Not collective. */
export function soloContext({ device }: Pick<ReplicaContext, 'device'>): ReplicaContext {
  const crossDeviceOps = createCrossDeviceOps('sharded', 1);
  const local = joinSharedMemoryGroup(createSharedMemoryGroup(1), 0);
  return new Context(
    localParts({ device, local, control: ControlBlock.create(1), crossDeviceOps, report: () => {}, summarize: null }),
  );
}
