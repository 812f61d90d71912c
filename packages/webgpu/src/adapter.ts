/** An adapter, WebGPU's word for a GPU with its driver, in plain data, as it crosses threads and processes; and what is thrown without Dawn. */

/** Where an adapter is found again: Dawn's API for it (vulkan, metal, d3d12), and its name there. */
export interface AdapterPlace {
  readonly api: string;
  readonly name: string;
}

/** An adapter, in plain data. */
export interface AdapterFacts extends AdapterPlace {
  /** 'nvidia', 'apple', 'intel', …; may be empty. */
  readonly vendor: string;
  /** 'ampere', 'metal-3', …; may be empty. */
  readonly architecture: string;
  /** The driver's own words. */
  readonly description: string;
  /** Computed by the CPU: SwiftShader, llvmpipe, WARP. */
  readonly isSoftware: boolean;
  /** Bytes of the largest buffer, which is the largest tensor. */
  readonly maxBufferBytes: number;
  /** Bytes of a buffer that one kernel can see. */
  readonly maxBindingBytes: number;
  /** WebGPU's names: 'shader-f16', 'subgroups', …. */
  readonly features: readonly string[];
}

/** Dawn's binary is not there, or does not load on this machine. */
export class DawnNotFoundError extends Error {
  override readonly name = 'DawnNotFoundError';
}
