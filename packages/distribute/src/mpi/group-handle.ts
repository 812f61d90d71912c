/** A process's membership in an MPI job, as its threads hand it to each other. */
import type { MpiAlgorithm } from './all-reduce/start.js';
import type { RankIdentity } from './identity.js';
import type { Address } from './native/open-mpi.js';

/** What a thread needs to make a communicator. Plain data: it crosses threads. */
export interface MpiGroupHandle {
  readonly rank: number;
  readonly size: number;
  readonly collectives: Address;
  readonly messages: Address;
  readonly board: SharedArrayBuffer;
  readonly identities: readonly RankIdentity[];
  readonly timeoutMs: number;
  readonly silenceMs: number;
  readonly warningMs: number;
  readonly debug: boolean;
  readonly algorithm: MpiAlgorithm;
  readonly tolerated: readonly number[];
}
