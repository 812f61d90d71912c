/** Machine code of our own that is ready to run on any buffers, as a primitive of oneDNN's is. */
import koffi from 'koffi';
import type { MemoryDescriptor } from '../ffi/dnnl.js';
import type { BoundPrimitive, PrimitiveListeners, Runnable, Scratchpad } from '../primitive.js';
import type { Machine } from './machine.js';

/** What code is loaded with. */
export interface CodeOptions {
  readonly code: Uint8Array;
  /** Kind and shapes, for people: 'batch_norm_forward [128,16,32,32]'. */
  readonly label: string;
  /** Of what `run` takes the addresses of. The code finds its scratch's in its argument, and then them, 8 bytes each. */
  readonly layouts: readonly MemoryDescriptor[];
  readonly scratchBytes: number;
  /** OpenMP threads; 0: as many as the calling thread has. */
  readonly threads: number;
}

/** See the file's head. */
export class CodePrimitive implements Runnable {
  readonly implementation = 'lockstep:avx512';
  readonly label: string;
  readonly layouts: readonly MemoryDescriptor[];
  /** Of {@link run}; those that are bound have arguments of their own. */
  readonly #argument: Argument;
  /** Bindings that still need the code. */
  #bindings = 0;
  #isDestroyed = false;

  readonly #code: number;

  /** @throws Error if the system takes no code */
  constructor(
    private readonly machine: Machine,
    private readonly scratchpad: Scratchpad,
    private readonly listeners: PrimitiveListeners,
    private readonly options: CodeOptions,
  ) {
    this.label = options.label;
    this.layouts = options.layouts;
    this.#argument = new Argument(options.layouts.length);
    this.#code = machine.load(options.code);
  }

  run(...addresses: number[]): void {
    const { scratchBytes } = this.options;
    this.#argument.fill(addresses);
    if (scratchBytes > 0) this.#argument.set(0, this.scratchpad.address(scratchBytes));
    this.#execute(this.#argument);
    this.listeners.recorder?.primitive(this, addresses);
  }

  bind(addresses: readonly number[]): BoundPrimitive {
    const argument = new Argument(addresses.length);
    argument.fill(addresses);
    this.#bindings++;
    return {
      scratchBytes: this.options.scratchBytes,
      useScratchpad: (address) => argument.set(0, address),
      run: () => this.#execute(argument),
      destroy: () => {
        this.#bindings--;
        this.#unloadUnused();
      },
    };
  }

  #execute(argument: Argument): void {
    const { observer } = this.listeners;
    const start = observer === null ? 0 : performance.now();
    this.machine.run(this.#code, argument.address, this.options.threads);
    observer?.(this, performance.now() - start);
  }

  destroy(): void {
    this.#isDestroyed = true;
    this.#unloadUnused();
  }

  #unloadUnused(): void {
    if (this.#isDestroyed && this.#bindings === 0) this.machine.unload(this.#code, this.options.code.length);
  }
}

/** Addresses as code reads them: the scratch's, then the others. */
class Argument {
  /** Halves of 64 bits, the lower one first. */
  readonly #words: Uint32Array;
  readonly address: number;

  constructor(count: number) {
    this.#words = new Uint32Array(2 * (count + 1));
    this.address = Number(koffi.address(this.#words));
  }

  set(index: number, address: number): void {
    this.#words[2 * index] = address % 2 ** 32;
    this.#words[2 * index + 1] = Math.floor(address / 2 ** 32);
  }

  fill(addresses: readonly number[]): void {
    for (let i = 0; i < addresses.length; i++) this.set(i + 1, addresses[i] as number);
  }
}
