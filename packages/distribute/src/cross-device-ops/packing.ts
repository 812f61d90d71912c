/**
 * Gradient packing as TensorFlow's `_ConcatAndSplitPacker` defines it: concatenate all gradients, cut into `num_packs`.
 *
 * Packs ignore tensor borders: of T elements the first num_packs − 1 packs get floor(T / num_packs) each and the last gets
 * the rest, so a tensor may lie in two packs and, with more packs than elements, leading packs are empty. The sum over
 * replicas is the same for every number of packs. Source: tensorflow/python/distribute/cross_device_utils.py (1.14).
 */

/** A run of consecutive elements of the concatenated gradients. */
export interface Pack {
  readonly offset: number;
  readonly length: number;
}

/**
 * The `numPacks` packs of `total` elements.
 * @throws RangeError `num_packs must be greater than zero.` (upstream's ValueError)
 */
export function splitIntoPacks(total: number, numPacks: number): Pack[] {
  checkNumPacks(numPacks, () => 'num_packs must be greater than zero.');
  const length = Math.floor(total / numPacks);
  const last = length * (numPacks - 1);
  return Array.from({ length: numPacks }, (_, i) => ({
    offset: i * length,
    length: i < numPacks - 1 ? length : total - last,
  }));
}

/** @throws RangeError with `message` unless `numPacks` is a whole number above zero. */
export function checkNumPacks(numPacks: number, message: () => string): void {
  if (!Number.isInteger(numPacks) || numPacks <= 0) throw new RangeError(message());
}

/** What {@link ConcatAndSplitPacker.unpack} has to know. */
export interface PackedLayout {
  readonly sizes: readonly number[];
}

/** Concatenates and cuts, and back. Works on plain f32 arrays; shapes are the caller's. */
export class ConcatAndSplitPacker {
  /** @throws RangeError `num_packs must be greater than zero.` */
  constructor(readonly numPacks: number) {
    checkNumPacks(numPacks, () => 'num_packs must be greater than zero.');
  }

  /** One vector of all elements in order, and views of its packs. */
  pack(gradients: readonly Float32Array[]): { flat: Float32Array; packs: Float32Array[]; layout: PackedLayout } {
    const sizes = gradients.map((gradient) => gradient.length);
    const flat = new Float32Array(sizes.reduce((total, size) => total + size, 0));
    let offset = 0;
    for (const gradient of gradients) {
      flat.set(gradient, offset);
      offset += gradient.length;
    }
    const packs = splitIntoPacks(flat.length, this.numPacks).map(({ offset, length }) =>
      flat.subarray(offset, offset + length),
    );
    return { flat, packs, layout: { sizes } };
  }

  /** The gradients again, as new arrays, from packs of {@link pack}'s sizes. */
  unpack(packs: readonly Float32Array[], { sizes }: PackedLayout): Float32Array[] {
    const total = packs.reduce((sum, pack) => sum + pack.length, 0);
    const flat = new Float32Array(total);
    let offset = 0;
    for (const pack of packs) {
      flat.set(pack, offset);
      offset += pack.length;
    }
    offset = 0;
    return sizes.map((size) => {
      offset += size;
      return flat.slice(offset - size, offset);
    });
  }
}
