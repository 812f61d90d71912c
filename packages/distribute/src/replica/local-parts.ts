/** The parts of a context whose replicas are threads of one process, and all in step. */
import type { SharedMemoryCommunicator } from '../communicator/shared-memory-communicator.js';
import type { CrossDeviceOps } from '../cross-device-ops/cross-device-ops.js';
import type { DeviceDescription } from '../devices/device.js';
import { FlatReducer } from '../trainer/flat-reducer.js';
import type { ContextParts } from './context.js';
import type { ControlBlock } from './control-block.js';
import { CountingCommunicator } from './counting-communicator.js';
import type { SummaryEvent } from './summary.js';

export interface LocalReplica {
  readonly device: DeviceDescription;
  readonly local: SharedMemoryCommunicator;
  readonly control: ControlBlock;
  readonly crossDeviceOps: CrossDeviceOps;
  readonly report: (message: unknown) => void;
  readonly summarize: ((event: SummaryEvent) => void) | null;
}

export function localParts({ device, local, control, crossDeviceOps, report, summarize }: LocalReplica): ContextParts {
  const { rank, size, memory } = local;
  const communicator = new CountingCommunicator(local, control, rank);
  const counted = <T>(collective: () => T) => communicator.counted(collective);
  let stopQuestions = 0;
  return {
    ...{ device, communicator, local, crossDeviceOps, report, summarize, isInStep: true },
    input: { pipelineId: 0, pipelines: 1, replicaId: rank, replicas: size },
    sum: (flat) => counted(() => crossDeviceOps.allReduce(local, flat)),
    makeReducer: (layout, ops) =>
      new FlatReducer({ ...layout, communicator: local, memory, crossDeviceOps: ops, counted }),
    beginStep: () => control.beginStep(rank),
    shouldStop: () => control.shouldStop(++stopQuestions),
  };
}
