/**
 * Values on their way from the GPU. A copy is recorded behind the kernel that made the values, into a staging buffer; when that is full it
 * is submitted and asked for, and the GPU goes on with what is recorded next. So gradients arrive in pieces, in their order, while backward
 * still computes the later ones, and nothing waits for the queue to run empty.
 */
import type { GpuBackend } from './backend.js';

/** Bytes of a staging buffer: large enough that a copy's fixed costs do not show, small enough that the first arrive early. */
const CHUNK = 4 * 2 ** 20;

/** Values asked for together; `arrive` gets bytes that are valid during the call only. */
interface Piece {
  readonly offset: number;
  readonly bytes: number;
  readonly arrive: (bytes: ArrayBuffer, offset: number) => void;
}

interface Staging {
  readonly buffer: GPUBuffer;
  used: number;
  pieces: Piece[];
}

/** See the file's head. */
export class ReadBack {
  #filling: Staging | null = null;
  /** Submitted and asked for, oldest first. */
  #underWay: { readonly staging: Staging; readonly mapped: Promise<undefined> }[] = [];
  readonly #free: Staging[] = [];

  constructor(
    private readonly backend: GpuBackend,
    private readonly chunk = CHUNK,
  ) {}

  /** Whether anything is on its way. */
  get isBusy(): boolean {
    return this.#filling !== null || this.#underWay.length > 0;
  }

  /** @param arrive called in the order of the calls, within {@link arriveAll} */
  fetch(source: GPUBuffer, bytes: number, arrive: Piece['arrive']): void {
    if (this.#filling && this.#filling.used + bytes > this.#filling.buffer.size) this.#send();
    this.#filling ??= this.#staging(bytes);
    const { buffer, used, pieces } = this.#filling;
    this.backend.recordCopy(source, buffer, used, bytes);
    pieces.push({ offset: used, bytes, arrive });
    this.#filling.used += bytes;
    if (this.#filling.used >= this.chunk) this.#send();
  }

  /** All that was asked for arrives. @throws GpuError if the GPU fails, or gives no answer for ten minutes */
  async arriveAll(): Promise<void> {
    if (this.#filling) this.#send();
    const underWay = this.#underWay;
    this.#underWay = [];
    for (const { staging, mapped } of underWay) {
      // A submission with something broken in it is dropped whole: what would be read is what was there before, so it throws.
      await this.backend.answered(mapped);
      const bytes = staging.buffer.getMappedRange();
      for (const { offset, arrive } of staging.pieces) arrive(bytes, offset);
      staging.buffer.unmap();
      staging.used = 0;
      staging.pieces = [];
      if (staging.buffer.size === this.chunk) this.#free.push(staging);
      else staging.buffer.destroy();
    }
  }

  #send(): void {
    const staging = this.#filling as Staging;
    this.#filling = null;
    this.backend.submit();
    const mapped = staging.buffer.mapAsync(GPUMapMode.READ);
    // Whoever waits hears of it; until then it is nobody's.
    mapped.catch(() => {});
    this.#underWay.push({ staging, mapped });
  }

  #staging(bytes: number): Staging {
    const free = bytes <= this.chunk ? this.#free.pop() : undefined;
    if (free) return free;
    const size = Math.max(bytes, this.chunk);
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    return { buffer: this.backend.device.createBuffer({ size, usage }), used: 0, pieces: [] };
  }
}
