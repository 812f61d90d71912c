/**
 * A parameter server: holds its variables and their optimizer slots, answers workers in the order in which they ask, applies
 * each gradient when it comes, and counts how stale it was. It computes no gradients and knows no other server.
 *
 * One thread, no locks: a pull gets a copy made between two updates, so it is never torn. A worker that is lost is left out
 * from then on; the loss of the chief ends the job (the communicator sees to that).
 */

import type { Work } from '../communicator/communicator.js';
import { parseValues } from '../communicator/plain-values.js';
import type { MpiCommunicator } from '../mpi/mpi-communicator.js';
import type { FlatMemory } from '../simd/index.js';
import { flatOptimizer } from '../trainer/optimizers/create.js';
import type { FlatOptimizer } from '../trainer/optimizers/optimizer.js';
import { type CutPiece, cutPieces, cutRuns, updatePieces } from '../trainer/pieces.js';
import { UpdateFactors } from '../trainer/update-factors.js';
import { HEADER, Kind, type ShardSpecification, type Staleness, sharedFloats, sharedHeader, Tag } from './protocol.js';

/** What a server did, for logs and tests. */
export interface ServerReport extends Staleness {
  readonly elements: number;
  readonly updatesOfWorker: readonly number[];
  /** histogram[s]: updates that were s updates old; the last entry counts all older ones. */
  readonly histogram: readonly number[];
  readonly lostWorkers: readonly number[];
}

const HISTOGRAM = 33;

type ClientState = 'header' | 'data' | 'held' | 'done' | 'lost';

/** One worker, as the server sees it. */
interface Client {
  readonly rank: number;
  state: ClientState;
  readonly header: Float64Array<SharedArrayBuffer>;
  incoming: Work | null;
  /** Gradients; also what the chief writes. */
  data: Float32Array | Uint8Array;
  readonly reply: Float64Array<SharedArrayBuffer>;
  outgoing: Work[];
  weights: Float32Array;
  updates: number;
}

/** The model's part that is held here. */
interface Shard {
  readonly elements: number;
  readonly weights: Float32Array;
  readonly slots: readonly Float32Array[];
  readonly optimizer: FlatOptimizer;
  /** Of each worker: the buffer of its gradients, and what is made of it. */
  readonly clients: readonly {
    readonly gradient: Float32Array;
    readonly pieces: readonly CutPiece[];
    readonly factors: UpdateFactors;
  }[];
}

/** See the file's head. */
export class ParameterServer {
  readonly #clients: Client[];
  #shard: Shard | null = null;
  #isWritten = false;
  #isOver = false;
  #stop = false;
  #allFinite = true;
  #version = 0;
  /** Updates that count beside those made here: of a run that was taken up again. */
  #before = 0;
  #stalenessSum = 0;
  #stalenessMax = 0;
  readonly #histogram = new Array<number>(HISTOGRAM).fill(0);

  /** @param workers Number of workers; their ranks are 0 to workers − 1, and 0 is the chief. */
  constructor(
    private readonly communicator: MpiCommunicator,
    workers: number,
    private readonly memory: FlatMemory,
    private readonly log: (line: string) => void,
  ) {
    this.#clients = Array.from({ length: workers }, (_, rank) => ({
      rank,
      state: 'header',
      header: sharedHeader(),
      incoming: null,
      data: new Uint8Array(),
      reply: sharedHeader(),
      outgoing: [],
      weights: new Float32Array(),
      updates: 0,
    }));
  }

  /** Serves until the chief ends the job. @throws CommunicatorError when the chief or another server is lost. */
  serve(): ServerReport {
    for (const client of this.#clients) this.#listen(client);
    while (!this.#isOver) this.communicator.waitUntil(() => this.#poll(), 'requests of the workers');
    // The last replies are on their way.
    this.communicator.waitUntil(
      () => this.#clients.every((client) => client.state === 'lost' || this.#isSent(client)),
      'the last replies',
    );
    const updates = this.#version;
    return {
      elements: this.#shard?.elements ?? 0,
      updates,
      mean: updates > 0 ? this.#stalenessSum / updates : 0,
      max: this.#stalenessMax,
      updatesOfWorker: this.#clients.map((client) => client.updates),
      histogram: [...this.#histogram],
      lostWorkers: this.#clients.filter(({ state }) => state === 'lost').map(({ rank }) => rank),
    };
  }

  /** Looks at every worker once. @returns whether anything happened. */
  #poll(): boolean {
    let happened = false;
    for (const client of this.#clients) {
      if (client.state === 'lost') continue;
      if (this.communicator.isLost(client.rank)) {
        // The chief's loss is not ours to tolerate: the communicator throws.
        if (client.rank === 0) continue;
        client.state = 'lost';
        this.log(`${this.communicator.describeRank(client.rank)} was lost: the other workers go on without it.`);
        happened = true;
      } else if (client.incoming?.test()) {
        client.incoming = null;
        if (client.state === 'data') this.#handleData(client);
        else this.#handleHeader(client);
        happened = true;
      }
    }
    return happened || this.#isOver;
  }

  #listen(client: Client): void {
    client.state = 'header';
    client.incoming = this.communicator.receiveAsync(client.header, client.rank, Tag.request);
  }

  #listenForData(client: Client, data: Float32Array | Uint8Array): void {
    client.state = 'data';
    client.data = data;
    client.incoming = this.communicator.receiveAsync(data, client.rank, Tag.requestData);
  }

  #handleHeader(client: Client): void {
    const [kind, first] = client.header as unknown as [number, number];
    switch (kind) {
      case Kind.specify:
        this.#listenForData(client, new Uint8Array(new SharedArrayBuffer(first)));
        break;
      case Kind.push:
        this.#listenForData(client, this.#ofClient(client).gradient);
        break;
      case Kind.write:
        this.#listenForData(client, sharedFloats(this.#stateLength));
        break;
      case Kind.pull:
        if (this.#isWritten) this.#answerPull(client);
        else client.state = 'held';
        break;
      case Kind.read:
        this.#reply(client, [this.#count], this.#state());
        this.#listen(client);
        break;
      case Kind.status:
        this.#stop ||= first === 1;
        this.#reply(client, this.#status());
        this.#listen(client);
        break;
      case Kind.done:
        client.state = 'done';
        break;
      case Kind.end:
        for (const other of this.#clients) if (other.state === 'done') this.#reply(other, []);
        this.#reply(client, []);
        this.#isOver = true;
        break;
      default:
        throw new Error(`Worker ${client.rank} sent a request of unknown kind ${kind}.`);
    }
  }

  #handleData(client: Client): void {
    switch (client.header[0]) {
      case Kind.specify:
        this.#specify(parseValues(Buffer.from(client.data as Uint8Array).toString()) as ShardSpecification);
        break;
      case Kind.write:
        this.#write(client.data as Float32Array, client.header[1] as number);
        this.#reply(client, []);
        break;
      default:
        this.#apply(client);
    }
    this.#listen(client);
  }

  #specify({ optimizer: config, segments: sizes }: ShardSpecification): void {
    const { memory } = this;
    let elements = 0;
    const segments = sizes.map((size) => {
      const offset = elements;
      elements += size.length;
      return { ...size, offset };
    });
    const optimizer = flatOptimizer(config);
    const weights = memory.allocate(elements);
    const slots = memory.allocateEach(optimizer.slots.length, elements);
    const runs = cutRuns(segments, elements, optimizer);
    const clients = this.#clients.map(() => {
      const gradient = memory.allocate(elements);
      const factors = new UpdateFactors({
        ...{ segments, weights, sum: gradient, optimizer, clip: undefined, kernels: memory.kernels },
        group: { rank: 0, size: 1, barrier: () => {} },
        allocateDoubles: (length) => memory.allocateDoubles(length),
      });
      return { gradient, factors, pieces: cutPieces(runs, 0, elements, { weights, slots, gradients: [gradient] }) };
    });
    this.#shard = { elements, weights, slots, optimizer, clients };
  }

  #write(state: Float32Array, count: number): void {
    const { weights, slots, elements } = this.#held;
    for (const [i, array] of [weights, ...slots].entries()) array.set(state.subarray(i * elements, (i + 1) * elements));
    this.#before = count - this.#version;
    this.#isWritten = true;
    for (const client of this.#clients) if (client.state === 'held') this.#answerPull(client);
  }

  #apply(client: Client): void {
    const { optimizer } = this.#held;
    const [, pulled, learningRate, scale] = client.header as unknown as [number, number, number, number];
    const { pieces, factors } = this.#ofClient(client);
    const { gradientScale, factors: ofVariables } = factors.of(scale);
    const step = { learningRate, gradientScale, count: this.#count + 1 };
    const finite = updatePieces(optimizer, this.memory.kernels, pieces, step, ofVariables);
    this.#allFinite &&= finite;
    const staleness = this.#version - pulled;
    this.#stalenessSum += staleness;
    this.#stalenessMax = Math.max(this.#stalenessMax, staleness);
    const bin = Math.min(staleness, HISTOGRAM - 1);
    this.#histogram[bin] = (this.#histogram[bin] as number) + 1;
    this.#version++;
    client.updates++;
    this.communicator.setStep(this.#version);
  }

  #answerPull(client: Client): void {
    const { weights, elements } = this.#held;
    if (client.weights.length !== elements) client.weights = sharedFloats(elements);
    this.#settle(client);
    client.weights.set(weights);
    this.#reply(client, [this.#version, this.#stop ? 1 : 0, this.#allFinite ? 1 : 0, this.#count], client.weights);
    this.#listen(client);
  }

  #status(): number[] {
    const others = this.#clients.slice(1);
    const active = others.filter(({ state }) => state !== 'done' && state !== 'lost').length;
    const lost = others.filter(({ state }) => state === 'lost').length;
    return [this.#version, active, lost, this.#version, this.#stalenessSum, this.#stalenessMax];
  }

  #state(): Float32Array {
    const { weights, slots, elements } = this.#held;
    const state = sharedFloats(this.#stateLength);
    for (const [i, array] of [weights, ...slots].entries()) state.set(array, i * elements);
    return state;
  }

  /** Updates made so far, those before this run included. */
  get #count(): number {
    return this.#before + this.#version;
  }

  #ofClient({ rank }: Client): Shard['clients'][0] {
    return this.#held.clients[rank] as Shard['clients'][0];
  }

  get #held(): Shard {
    if (this.#shard) return this.#shard;
    throw new Error('A worker asked for variables before the chief had said which there are.');
  }

  get #stateLength(): number {
    const { slots, elements } = this.#held;
    return elements * (1 + slots.length);
  }

  #reply(client: Client, values: readonly number[], data?: Float32Array): void {
    this.#settle(client);
    client.reply.fill(0, 0, HEADER);
    client.reply.set(values);
    client.outgoing = [this.communicator.sendAsync(client.reply, client.rank, Tag.reply)];
    if (data && data.length > 0) client.outgoing.push(this.communicator.sendAsync(data, client.rank, Tag.replyData));
  }

  /** A worker asks again only after it has the last reply, so this is a matter of MPI noticing. */
  #settle(client: Client): void {
    this.communicator.waitUntil(
      () => this.#isSent(client) || this.communicator.isLost(client.rank),
      'a reply to a worker',
    );
  }

  #isSent(client: Client): boolean {
    return client.outgoing.every((work) => work.test());
  }
}
