/**
 * Open MPI's C interface, as far as Lockstep uses it: non-blocking calls only, handles as addresses, errors as exceptions.
 *
 * It knows no collectives of Lockstep and no time-outs. Nothing here blocks except `init` and `finalize`, because a call
 * that waits inside C can be neither bounded nor interrupted. Each thread makes its own OpenMpi over the one library of
 * the process. Handles are pointers to globals in Open MPI 4 and 5; MPICH's integers are not supported.
 */
import koffi, { type LibraryHandle } from 'koffi';
import { CommunicatorError } from '../../communicator/communicator.js';
import { type LoadedMpi, loadMpi } from './library.js';
import { closePortsOfLocalJob } from './ports.js';

type KoffiFunction = ReturnType<LibraryHandle['func']>;

/** A native address: of a communicator, a datatype, an operation, or of memory. */
export type Address = number;

/** Index of a request in this thread's table. */
export type Request = number;

export const MPI_THREAD_MULTIPLE = 3;
const IN_PLACE: Address = 1;
const STATUS_IGNORE: Address = 0;
/** Messages that one thread can have under way. */
export const REQUESTS = 4096;

/** Element types that MPI can combine. */
export type ElementType = 'float' | 'double' | 'int32' | 'uint8' | 'int64' | 'byte';
export type MpiOp = 'sum' | 'max' | 'min';

const TYPE_SYMBOLS: Record<ElementType, string> = {
  float: 'ompi_mpi_float',
  double: 'ompi_mpi_double',
  int32: 'ompi_mpi_int32_t',
  uint8: 'ompi_mpi_uint8_t',
  int64: 'ompi_mpi_int64_t',
  byte: 'ompi_mpi_byte',
};
const OP_SYMBOLS: Record<MpiOp, string> = {
  sum: 'ompi_mpi_op_sum',
  max: 'ompi_mpi_op_max',
  min: 'ompi_mpi_op_min',
};

/** See the file's head. */
export class OpenMpi {
  readonly version: string;
  readonly world: Address;
  readonly types: Readonly<Record<ElementType, Address>>;
  readonly ops: Readonly<Record<MpiOp, Address>>;
  readonly #loaded: LoadedMpi;
  readonly #functions = new Map<string, KoffiFunction>();
  /** MPI writes request handles here, so it must not move: shared memory never does. */
  readonly #requests = new BigUint64Array(new SharedArrayBuffer(8 * REQUESTS));
  readonly #requestBase: Address;
  readonly #free: number[] = Array.from({ length: REQUESTS }, (_, i) => REQUESTS - 1 - i);
  /** What an unfinished request reads or writes must not be collected. */
  readonly #pinned = new Map<Request, ArrayBufferView>();
  readonly #word = new Int32Array(new SharedArrayBuffer(8));
  readonly #wordAddress: Address;
  /** Requests of one testSome: MPI wants them side by side. Handles are 64 bits, moved as two words each. */
  readonly #batch = new Uint32Array(new SharedArrayBuffer(8 * REQUESTS));
  readonly #batchIndices = new Int32Array(new SharedArrayBuffer(4 * REQUESTS));
  readonly #requestWords: Uint32Array;
  readonly #test: KoffiFunction;
  readonly #testSome: KoffiFunction;
  readonly #isend: KoffiFunction;
  readonly #irecv: KoffiFunction;
  readonly #reduceLocal: KoffiFunction;

  /** @throws MpiNotFoundError */
  constructor(loaded: LoadedMpi = loadMpi()) {
    this.#loaded = loaded;
    this.version = loaded.version;
    this.world = this.#symbol('ompi_mpi_comm_world');
    const symbols = (names: Record<string, string>) =>
      Object.fromEntries(Object.entries(names).map(([key, name]) => [key, this.#symbol(name)]));
    this.types = symbols(TYPE_SYMBOLS) as Record<ElementType, Address>;
    this.ops = symbols(OP_SYMBOLS) as Record<MpiOp, Address>;
    this.#requestBase = addressOf(this.#requests);
    this.#wordAddress = addressOf(this.#word);
    this.#requestWords = new Uint32Array(this.#requests.buffer);
    const p = 'uintptr_t';
    this.#test = this.#function(`int MPI_Test(${p} request, ${p} flag, ${p} status)`);
    this.#testSome = this.#function(
      `int MPI_Testsome(int count, ${p} requests, ${p} completed, ${p} indices, ${p} statuses)`,
    );
    this.#isend = this.#function(
      `int MPI_Isend(${p} buffer, int count, ${p} type, int destination, int tag, ${p} comm, ${p} request)`,
    );
    this.#irecv = this.#function(
      `int MPI_Irecv(${p} buffer, int count, ${p} type, int source, int tag, ${p} comm, ${p} request)`,
    );
    this.#reduceLocal = this.#function(`int MPI_Reduce_local(${p} in, ${p} inout, int count, ${p} type, ${p} op)`);
  }

  /** True between init and finalize, whoever called them. */
  get isRunning(): boolean {
    return this.#flag('MPI_Initialized') && !this.#flag('MPI_Finalized');
  }

  get isFinalized(): boolean {
    return this.#flag('MPI_Finalized');
  }

  /** Starts MPI for the process; blocks until all processes have. @throws CommunicatorError without full thread support. */
  init(): void {
    closePortsOfLocalJob(this.#loaded);
    this.#word[0] = -1;
    this.#call('int MPI_Init_thread(uintptr_t argc, uintptr_t argv, int required, uintptr_t provided)', [
      0,
      0,
      MPI_THREAD_MULTIPLE,
      this.#wordAddress,
    ]);
    const provided = this.#word[0] as number;
    if (provided < MPI_THREAD_MULTIPLE) {
      throw new CommunicatorError(
        `Open MPI ${this.version} offers thread level ${provided}, and Lockstep needs MPI_THREAD_MULTIPLE (3).\n` +
          'help: use an Open MPI built with --enable-mpi-thread-multiple, as the distributions build it.',
      );
    }
  }

  finalize(): void {
    this.#call('int MPI_Finalize()', []);
  }

  /** Ends every process of the job. Does not return where Open MPI ends this one at once. */
  abort(code: number): void {
    this.#call('int MPI_Abort(uintptr_t comm, int code)', [this.world, code]);
  }

  /** A copy of `comm` whose messages meet no others', and whose errors are returned instead of ending the process. */
  duplicate(comm: Address): Address {
    const cell = new BigUint64Array(new SharedArrayBuffer(8));
    this.#call('int MPI_Comm_dup(uintptr_t comm, uintptr_t copy)', [comm, addressOf(cell)]);
    const copy = Number(cell[0]);
    this.returnErrors(copy);
    return copy;
  }

  /** Errors on `comm` become return codes (exceptions here). */
  returnErrors(comm: Address): void {
    this.#call('int MPI_Comm_set_errhandler(uintptr_t comm, uintptr_t handler)', [
      comm,
      this.#symbol('ompi_mpi_errors_return'),
    ]);
  }

  rank(comm: Address): number {
    this.#call('int MPI_Comm_rank(uintptr_t comm, uintptr_t rank)', [comm, this.#wordAddress]);
    return this.#word[0] as number;
  }

  size(comm: Address): number {
    this.#call('int MPI_Comm_size(uintptr_t comm, uintptr_t size)', [comm, this.#wordAddress]);
    return this.#word[0] as number;
  }

  isend(
    keep: ArrayBufferView,
    address: Address,
    count: number,
    type: Address,
    to: number,
    tag: number,
    comm: Address,
  ): Request {
    const request = this.#allocate(keep);
    this.#check(
      'MPI_Isend',
      this.#isend(address, count, type, to, tag, comm, this.#requestBase + 8 * request),
      request,
    );
    return request;
  }

  irecv(
    keep: ArrayBufferView,
    address: Address,
    count: number,
    type: Address,
    from: number,
    tag: number,
    comm: Address,
  ): Request {
    const request = this.#allocate(keep);
    this.#check(
      'MPI_Irecv',
      this.#irecv(address, count, type, from, tag, comm, this.#requestBase + 8 * request),
      request,
    );
    return request;
  }

  ibarrier(comm: Address): Request {
    const request = this.#allocate(this.#word);
    const signature = 'int MPI_Ibarrier(uintptr_t comm, uintptr_t request)';
    this.#call(signature, [comm, this.#requestBase + 8 * request], request);
    return request;
  }

  ibcast(keep: ArrayBufferView, address: Address, count: number, type: Address, root: number, comm: Address): Request {
    const request = this.#allocate(keep);
    const signature =
      'int MPI_Ibcast(uintptr_t buffer, int count, uintptr_t type, int root, uintptr_t comm, uintptr_t request)';
    this.#call(signature, [address, count, type, root, comm, this.#requestBase + 8 * request], request);
    return request;
  }

  /** `receive` holds size × count elements. Both buffers are kept by the caller until the request is done. */
  iallgather(
    keep: ArrayBufferView,
    send: Address,
    receive: Address,
    count: number,
    type: Address,
    comm: Address,
  ): Request {
    const request = this.#allocate(keep);
    const signature =
      'int MPI_Iallgather(uintptr_t send, int sendCount, uintptr_t sendType, uintptr_t receive, int receiveCount, ' +
      'uintptr_t receiveType, uintptr_t comm, uintptr_t request)';
    this.#call(signature, [send, count, type, receive, count, type, comm, this.#requestBase + 8 * request], request);
    return request;
  }

  /** In place. */
  iallreduce(
    keep: ArrayBufferView,
    address: Address,
    count: number,
    type: Address,
    op: Address,
    comm: Address,
  ): Request {
    const request = this.#allocate(keep);
    const signature =
      'int MPI_Iallreduce(uintptr_t send, uintptr_t receive, int count, uintptr_t type, uintptr_t op, uintptr_t comm, ' +
      'uintptr_t request)';
    this.#call(signature, [IN_PLACE, address, count, type, op, comm, this.#requestBase + 8 * request], request);
    return request;
  }

  /** inout = in op inout, element by element, with Open MPI's vector code. Not a communication. */
  reduceLocal(input: Address, inout: Address, count: number, type: Address, op: Address): void {
    this.#check('MPI_Reduce_local', this.#reduceLocal(input, inout, count, type, op));
  }

  /** True when the request has completed; it is then gone. Also drives Open MPI's progress. */
  test(request: Request): boolean {
    this.#word[0] = 0;
    this.#check('MPI_Test', this.#test(this.#requestBase + 8 * request, this.#wordAddress, STATUS_IGNORE), request);
    if (this.#word[0] === 0) return false;
    this.#release(request);
    return true;
  }

  /** Those of `requests` that have completed; they are then gone. Drives Open MPI's progress once, however many there are. */
  testSome(requests: readonly Request[]): Request[] {
    const words = this.#requestWords;
    for (const [i, request] of requests.entries()) {
      this.#batch[2 * i] = words[2 * request] as number;
      this.#batch[2 * i + 1] = words[2 * request + 1] as number;
    }
    this.#word[0] = 0;
    this.#check(
      'MPI_Testsome',
      this.#testSome(requests.length, addressOf(this.#batch), this.#wordAddress, addressOf(this.#batchIndices), 0),
    );
    const completed: Request[] = [];
    // Less than 0 (MPI_UNDEFINED) when none of them is active.
    for (let i = 0; i < (this.#word[0] as number); i++) {
      const request = requests[this.#batchIndices[i] as number] as Request;
      completed.push(request);
      this.#release(request);
    }
    return completed;
  }

  /** Frees a communicator. Collective. */
  freeCommunicator(comm: Address): void {
    const cell = new BigUint64Array(new SharedArrayBuffer(8));
    cell[0] = BigInt(comm);
    this.#call('int MPI_Comm_free(uintptr_t comm)', [addressOf(cell)]);
  }

  /** Withdraws a receive that nobody will answer. */
  cancel(request: Request): void {
    const at = this.#requestBase + 8 * request;
    this.#call('int MPI_Cancel(uintptr_t request)', [at]);
    this.#call('int MPI_Request_free(uintptr_t request)', [at]);
    this.#release(request);
  }

  #allocate(keep: ArrayBufferView): Request {
    const request = this.#free.pop();
    if (request === undefined) {
      throw new CommunicatorError(
        `More than ${REQUESTS} messages are under way at once.\nhelp: wait() for earlier asynchronous operations.`,
      );
    }
    this.#pinned.set(request, keep);
    return request;
  }

  #release(request: Request): void {
    this.#pinned.delete(request);
    this.#free.push(request);
  }

  #flag(name: string): boolean {
    this.#word[0] = 0;
    this.#call(`int ${name}(uintptr_t flag)`, [this.#wordAddress]);
    return this.#word[0] !== 0;
  }

  #symbol(name: string): Address {
    return Number(this.#loaded.library.symbol(name, 'void'));
  }

  #function(signature: string): KoffiFunction {
    let bound = this.#functions.get(signature);
    if (!bound) {
      bound = this.#loaded.library.func(signature);
      this.#functions.set(signature, bound);
    }
    return bound;
  }

  #call(signature: string, args: number[], request?: Request): void {
    const name = signature.slice('int '.length, signature.indexOf('('));
    this.#check(name, this.#function(signature)(...args), request);
  }

  #check(name: string, code: number, request?: Request): void {
    if (code === 0) return;
    // The request's memory stays pinned: after an error nobody knows whether MPI still writes to it.
    void request;
    throw new CommunicatorError(`${name} failed: ${this.#errorText(code)}.`);
  }

  #errorText(code: number): string {
    const text = new Uint8Array(1024);
    const length = new Int32Array(1);
    this.#function('int MPI_Error_string(int code, void *text, void *length)')(code, text, length);
    return Buffer.from(text.buffer, 0, length[0]).toString() || `code ${code}`;
  }
}

/** Where a typed array's elements are. Valid as long as the array is referenced. */
export function addressOf(array: ArrayBufferView): Address {
  return Number(koffi.address(array));
}
