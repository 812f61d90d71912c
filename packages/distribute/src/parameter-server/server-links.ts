/**
 * A worker's side of the parameter servers: pulls weights from all of them, pushes gradients to all of them, and for the chief
 * reads and writes what they hold. It knows which variable lies where; it computes nothing. One thread of a worker uses it.
 */
import type { Work } from '../communicator/communicator.js';
import { CommunicatorError } from '../communicator/communicator.js';
import { stringifyValues } from '../communicator/plain-values.js';
import type { MpiCommunicator } from '../mpi/mpi-communicator.js';
import type { OptimizerConfig } from '../trainer/optimizers/create.js';
import type { FlatSegment, GroupStatus } from '../trainer/reducer.js';
import { placeVariables } from './placement.js';
import { Kind, type ShardSpecification, sharedFloats, sharedHeader, Tag } from './protocol.js';

/** What the servers tell with the weights. */
export interface PullResult {
  /** The chief has asked everybody to stop. */
  readonly stop: boolean;
  /** Whether every gradient so far was finite. */
  readonly finite: boolean;
  /** Updates made so far, by all workers together. */
  readonly count: number;
}

interface Link {
  readonly rank: number;
  readonly segments: readonly { readonly index: number; readonly from: number; readonly segment: FlatSegment }[];
  readonly elements: number;
  readonly request: Float64Array<SharedArrayBuffer>;
  readonly reply: Float64Array<SharedArrayBuffer>;
  readonly weights: Float32Array<SharedArrayBuffer>;
  readonly gradients: Float32Array<SharedArrayBuffer>;
  /** The last push, which may still be on its way. */
  outgoing: Work[];
  /** The server's version when weights were pulled. */
  version: number;
}

const NAP_MS = 50;

/** See the file's head. */
export class ServerLinks {
  readonly #links: Link[];

  constructor(
    private readonly communicator: MpiCommunicator,
    /** Ranks of the servers. */
    servers: readonly number[],
    segments: readonly FlatSegment[],
  ) {
    const placed = placeVariables(
      segments.map(({ length }) => length),
      servers.length,
    );
    this.#links = servers.map((rank, server) => {
      let elements = 0;
      const own = segments.flatMap((segment, index) => {
        if (placed[index] !== server) return [];
        const from = elements;
        elements += segment.length;
        return [{ index, from, segment }];
      });
      return {
        rank,
        segments: own,
        elements,
        request: sharedHeader(),
        reply: sharedHeader(),
        weights: sharedFloats(elements),
        gradients: sharedFloats(elements),
        outgoing: [],
        version: 0,
      };
    });
  }

  /** Chief: tells every server what it holds. */
  specify(optimizer: OptimizerConfig): void {
    for (const link of this.#links) {
      const segments = link.segments.map(({ segment: { name = '', length, weightDecay = 0 } }) => ({
        ...{ name, length, weightDecay },
      }));
      const text = Buffer.from(stringifyValues({ optimizer, segments } satisfies ShardSpecification));
      const bytes = new Uint8Array(new SharedArrayBuffer(text.length));
      bytes.set(text);
      this.#request(link, [Kind.specify, bytes.length], bytes);
      this.#settle(link);
    }
  }

  /** The servers' weights, into the flat buffer. */
  pull(weights: Float32Array): PullResult {
    const replies = this.#links.map((link) => {
      this.#request(link, [Kind.pull]);
      return this.#expect(link, link.weights);
    });
    let stop = false;
    let finite = true;
    let count = 0;
    for (const [i, link] of this.#links.entries()) {
      // Held back until the chief has written, which may take it a while; its loss, or the server's, ends the wait.
      this.communicator.waitUntil(() => (replies[i] as Work[]).every((work) => work.test()), 'weights of the servers');
      const [version, stopped, allFinite, counted] = link.reply as unknown as [number, number, number, number];
      link.version = version;
      stop ||= stopped === 1;
      finite &&= allFinite === 1;
      count = Math.max(count, counted);
      scatter(link, link.weights, weights);
    }
    return { stop, finite, count };
  }

  /** Sends gradients on their way. The flat buffer may be overwritten at once. */
  push(gradients: Float32Array, learningRate: number, gradientScale: number): void {
    for (const link of this.#links) {
      this.#settle(link);
      gather(link, gradients, link.gradients);
      this.#request(link, [Kind.push, link.version, learningRate, gradientScale], link.gradients);
    }
  }

  /** Chief: weights and slots that the servers hold. @returns updates made so far. */
  read(arrays: readonly Float32Array[]): number {
    let count = 0;
    for (const link of this.#links) {
      const state = sharedFloats(link.elements * arrays.length);
      this.#request(link, [Kind.read]);
      for (const work of this.#expect(link, state)) work.wait();
      count = Math.max(count, link.reply[0] as number);
      for (const [i, array] of arrays.entries()) {
        scatter(link, state.subarray(i * link.elements, (i + 1) * link.elements), array);
      }
    }
    return count;
  }

  /** Chief: gives the servers weights and slots; from the first time on they answer. */
  write(arrays: readonly Float32Array[], count: number): void {
    for (const link of this.#links) {
      const state = sharedFloats(link.elements * arrays.length);
      for (const [i, array] of arrays.entries()) {
        gather(link, array, state.subarray(i * link.elements, (i + 1) * link.elements));
      }
      this.#request(link, [Kind.write, count], state);
      for (const work of this.#expect(link)) work.wait();
    }
  }

  /** Chief. @param stop Ask all workers to stop. */
  status(stop = false): GroupStatus {
    const found = this.#links.map((link) => {
      this.#request(link, [Kind.status, stop ? 1 : 0]);
      for (const work of this.#expect(link)) work.wait();
      return [...link.reply] as [number, number, number, number, number, number];
    });
    const most = (column: number) => Math.max(...found.map((row) => row[column] as number));
    const sum = (column: number) => found.reduce((total, row) => total + (row[column] as number), 0);
    const updates = sum(3);
    return { active: most(1), lost: most(2), updates: most(0), mean: updates > 0 ? sum(4) / updates : 0, max: most(5) };
  }

  /**
   * Chief: waits until all other workers have ended or are lost.
   * @throws CommunicatorError when none of them has made an update or an end within the group's time limit.
   */
  waitForOthers(stop: boolean): GroupStatus {
    const nap = new Int32Array(new SharedArrayBuffer(4));
    let last = this.status(stop);
    let since = performance.now();
    while (last.active > 0) {
      Atomics.wait(nap, 0, 0, NAP_MS);
      const next = this.status(stop);
      if (next.active !== last.active || next.updates !== last.updates) since = performance.now();
      else if (performance.now() - since > this.communicator.group.timeoutMs) {
        throw new CommunicatorError(
          `${next.active} of the other workers neither pushed a gradient nor ended within ` +
            `${this.communicator.group.timeoutMs / 1000} s.\nhelp: their output may say why; --worker_timeout_secs sets the limit.`,
        );
      }
      last = next;
    }
    return last;
  }

  /** After the last request: the chief waits for the other workers and ends the job, the others wait until it does. */
  finish(isChief: boolean): void {
    if (isChief) {
      this.waitForOthers(false);
      this.#end();
    } else this.#done();
  }

  /** Other workers: has ended, and waits for the chief to end the job. */
  #done(): void {
    const replies = this.#links.map((link) => {
      this.#request(link, [Kind.done]);
      return this.#expect(link);
    });
    this.communicator.waitUntil(() => replies.flat().every((work) => work.test()), 'the end of the job');
  }

  /** Chief: everything is over. */
  #end(): void {
    for (const link of this.#links) {
      this.#request(link, [Kind.end]);
      for (const work of this.#expect(link)) work.wait();
    }
  }

  #request(link: Link, values: readonly number[], data?: Float32Array | Uint8Array): void {
    this.#settle(link);
    link.request.fill(0);
    link.request.set(values);
    link.outgoing = [this.communicator.sendAsync(link.request, link.rank, Tag.request)];
    if (data) link.outgoing.push(this.communicator.sendAsync(data, link.rank, Tag.requestData));
  }

  #expect(link: Link, data?: Float32Array): Work[] {
    const works = [this.communicator.receiveAsync(link.reply, link.rank, Tag.reply)];
    if (data && data.length > 0) works.push(this.communicator.receiveAsync(data, link.rank, Tag.replyData));
    return works;
  }

  /** The last request has left this process. */
  #settle(link: Link): void {
    for (const work of link.outgoing) work.wait();
    link.outgoing = [];
  }
}

function scatter(link: Link, shard: Float32Array, flat: Float32Array): void {
  for (const { from, segment } of link.segments) flat.set(shard.subarray(from, from + segment.length), segment.offset);
}

function gather(link: Link, flat: Float32Array, shard: Float32Array): void {
  for (const { from, segment } of link.segments) {
    shard.set(flat.subarray(segment.offset, segment.offset + segment.length), from);
  }
}
