/**
 * TensorFlow's element types (tensorflow/core/framework/types.proto): their numbers, names and sizes, and how their bytes become values.
 * Types that no variable of a network has (complex, quantized, resources) are known by name and are not read.
 */

/** Values of a tensor: 16-bit floating point becomes f32, a truth value 0 or 1, a text its bytes. */
export type TensorValues =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | readonly Uint8Array[];

export interface Dtype {
  readonly number: number;
  readonly name: string;
  /** Of one element; null: they differ (strings), or are not read here. */
  readonly bytes: number | null;
  /** From bytes at the beginning of a buffer of their own; absent: not read here, or not so. */
  readonly decode?: (buffer: ArrayBuffer) => TensorValues;
}

const ALL: readonly Dtype[] = [
  { number: 1, name: 'float', bytes: 4, decode: (buffer) => new Float32Array(buffer) },
  { number: 2, name: 'double', bytes: 8, decode: (buffer) => new Float64Array(buffer) },
  { number: 3, name: 'int32', bytes: 4, decode: (buffer) => new Int32Array(buffer) },
  { number: 4, name: 'uint8', bytes: 1, decode: (buffer) => new Uint8Array(buffer) },
  { number: 5, name: 'int16', bytes: 2, decode: (buffer) => new Int16Array(buffer) },
  { number: 6, name: 'int8', bytes: 1, decode: (buffer) => new Int8Array(buffer) },
  { number: 7, name: 'string', bytes: null },
  { number: 8, name: 'complex64', bytes: null },
  { number: 9, name: 'int64', bytes: 8, decode: (buffer) => new BigInt64Array(buffer) },
  { number: 10, name: 'bool', bytes: 1, decode: (buffer) => new Uint8Array(buffer) },
  { number: 11, name: 'qint8', bytes: null },
  { number: 12, name: 'quint8', bytes: null },
  { number: 13, name: 'qint32', bytes: null },
  { number: 14, name: 'bfloat16', bytes: 2, decode: (buffer) => fromBfloat16(new Uint16Array(buffer)) },
  { number: 15, name: 'qint16', bytes: null },
  { number: 16, name: 'quint16', bytes: null },
  { number: 17, name: 'uint16', bytes: 2, decode: (buffer) => new Uint16Array(buffer) },
  { number: 18, name: 'complex128', bytes: null },
  { number: 19, name: 'half', bytes: 2, decode: (buffer) => fromHalf(new Uint16Array(buffer)) },
  { number: 20, name: 'resource', bytes: null },
  { number: 21, name: 'variant', bytes: null },
  { number: 22, name: 'uint32', bytes: 4, decode: (buffer) => new Uint32Array(buffer) },
  { number: 23, name: 'uint64', bytes: 8, decode: (buffer) => new BigUint64Array(buffer) },
];

/** By TensorFlow's number; of one that it has not, a name for messages. */
export function dtypeOf(number: number): Dtype {
  return ALL.find((one) => one.number === number) ?? { number, name: `type ${number}`, bytes: null };
}

/** TensorFlow's number of a type. @throws RangeError for a name that is none */
export function dtypeNamed(name: string): Dtype {
  const found = ALL.find((one) => one.name === name);
  if (!found) throw new RangeError(`'${name}' is no type of TensorFlow's.`);
  return found;
}

/** The upper half of an f32. */
function fromBfloat16(halves: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
}

/** IEEE 754's binary16: 1 bit of sign, 5 of exponent (bias 15), 10 of fraction. Every one of them is an f32. */
function fromHalf(halves: Uint16Array): Float32Array {
  return Float32Array.from(halves, (half) => {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >>> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
    return sign * (1024 + fraction) * 2 ** (exponent - 25);
  });
}
