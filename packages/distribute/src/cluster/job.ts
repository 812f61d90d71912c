/**
 * A process's place in the job that the launcher started, for strategies: joins once, makes sure that everybody runs the same
 * thing, leaves together with the others. It knows no replicas and moves no gradients.
 */
import { gatherValues } from '../communicator/gather.js';
import { MpiCommunicator } from '../mpi/mpi-communicator.js';
import { MpiGroup, type MpiGroupHandle, type MpiOptions } from '../mpi/mpi-group.js';
import { checkAgreement, type Facts } from './agreement.js';

/** See the file's head. */
export class Job {
  #group: MpiGroup | null = null;

  /** @param facts Compared over all processes when they join. */
  constructor(
    private readonly options: MpiOptions | undefined,
    private readonly facts: () => Facts,
  ) {}

  /**
   * Joins the job, the first time; blocks until all processes have.
   * @throws CommunicatorError naming the ranks that run something else.
   */
  join(): MpiGroupHandle {
    if (this.#group) return this.#group.handle;
    this.#group = MpiGroup.open(this.options);
    try {
      checkAgreement(new MpiCommunicator(this.#group.handle), this.facts());
    } catch (error) {
      this.#group.abort((error as Error).message.split('\n')[0] as string);
      throw error;
    }
    return this.#group.handle;
  }

  /** Rank 0's value, on all ranks. Collective, from the main thread. */
  fromChief<T>(value: T): T {
    return gatherValues(new MpiCommunicator(this.join()), value)[0] as T;
  }

  /** The other processes would wait for this one. */
  abort(reason: string): void {
    this.#group?.abort(reason);
  }

  /** Leaves together with the other processes. Without it, the process leaves when it ends. */
  close(): void {
    this.#group?.close();
    this.#group = null;
  }
}
