/**
 * The header of a safetensors file, checked against every rule of the published format
 * (https://github.com/huggingface/safetensors#format): an object that begins with `{`, no name twice, `__metadata__` only of
 * texts, shapes and offsets that are counts, and tensors that cover the data exactly: no overlap, no hole, nothing behind
 * them. It looks at no data. JSON.parse would do most of the reading, but it drops a name that stands there twice and goes
 * as deep as it is told, so the few lines of a parser are here.
 */
import { quoted } from '../files/quoted.js';

/** A file is not what it says, or is cut off. The message goes on after the file's name: 'is 3 bytes long, …'. */
export class TensorFileError extends Error {
  override readonly name = 'TensorFileError';
}

/** Element types of the format, and the bytes of one element. Those with a fraction of a byte are of its newest version. */
const ELEMENT_BYTES: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  F4: 1 / 2,
  F6_E2M3: 3 / 4,
  F6_E3M2: 3 / 4,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
  C64: 8,
};

/** As the reference implementation: a longer header is an attack or garbage. */
export const MAX_HEADER_BYTES = 100_000_000;
/** The format needs three levels; what is not of the format may have a few more before it is refused. */
const MAX_DEPTH = 32;

/** Where a tensor's data is. */
export interface TensorPlace {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Bytes, from the end of the header. */
  readonly begin: number;
  readonly end: number;
}

export interface TensorHeader {
  /** In the order of the header. */
  readonly places: readonly TensorPlace[];
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * The header's length, from a file's first eight bytes.
 * @throws TensorFileError for a length that no file of this size has.
 */
export function headerLength(first: Uint8Array, fileBytes: number): number {
  if (fileBytes < 8) throw new TensorFileError(`is ${fileBytes} bytes long, too short for a safetensors file`);
  const length = new DataView(first.buffer, first.byteOffset).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES) || 8 + Number(length) > fileBytes) {
    throw new TensorFileError(`says that its header has ${length} bytes, but has ${fileBytes} in all`);
  }
  return Number(length);
}

/**
 * Reads a header.
 * @param dataBytes What the file has behind it.
 * @throws TensorFileError naming the rule that is broken.
 */
export function parseHeader(bytes: Uint8Array, dataBytes: number): TensorHeader {
  if (bytes[0] !== 0x7b) throw new TensorFileError('has a header that is no JSON object: it does not begin with {');
  const header = parseJson(decodeUtf8(bytes));
  if (!(header instanceof Map)) throw new TensorFileError('has a header that is no JSON object');
  const places: TensorPlace[] = [];
  let metadata: Readonly<Record<string, string>> = {};
  for (const [name, value] of header) {
    if (name === '__metadata__') metadata = texts(value);
    else places.push(place(name, value));
  }
  checkCover(places, dataBytes);
  return { places, metadata };
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new TensorFileError('has a header that is not JSON: it is not UTF-8');
  }
}

function texts(value: Json): Readonly<Record<string, string>> {
  if (!(value instanceof Map)) throw new TensorFileError('has __metadata__ that is no JSON object');
  for (const [name, text] of value) {
    if (typeof text !== 'string') throw new TensorFileError(`has metadata ${quoted(name)} that is no text`);
  }
  // Object.fromEntries makes a property of its own also of '__proto__'.
  return Object.fromEntries(value as Map<string, string>);
}

function place(name: string, value: Json): TensorPlace {
  const fields = value instanceof Map ? value : new Map<string, Json>();
  const [dtype, shape, offsets] = ['dtype', 'shape', 'data_offsets'].map((field) => fields.get(field));
  if (typeof dtype !== 'string' || !Array.isArray(shape) || !Array.isArray(offsets) || offsets.length !== 2) {
    throw new TensorFileError(`describes tensor ${quoted(name)} incompletely`);
  }
  if (!Object.hasOwn(ELEMENT_BYTES, dtype)) {
    throw new TensorFileError(`has tensor ${quoted(name)} of unknown dtype ${quoted(dtype)}`);
  }
  if (!shape.every(isCount))
    throw new TensorFileError(`has tensor ${quoted(name)} of a shape that is no list of counts`);
  if (!offsets.every(isCount)) throw new TensorFileError(`has tensor ${quoted(name)} at offsets that are no counts`);
  const [begin, end] = offsets as [number, number];
  const bytes = shape.reduce((product, size) => product * size, 1) * (ELEMENT_BYTES[dtype] as number);
  // Beyond 2^53 the product is not exact, and no such tensor fits into a file.
  if (end - begin !== bytes || bytes > Number.MAX_SAFE_INTEGER) {
    throw new TensorFileError(`has ${end - begin} bytes for tensor ${quoted(name)} of shape [${shown(shape)}]`);
  }
  return { name, dtype, shape, begin, end };
}

function shown(shape: readonly number[]): string {
  return shape.length > 8 ? `${shape.slice(0, 8)},… (${shape.length} sizes)` : String(shape);
}

/** The data is covered by tensors from its first byte to its last, each byte once. */
function checkCover(places: readonly TensorPlace[], dataBytes: number): void {
  let at = 0;
  for (const { name, begin, end } of [...places].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (end > dataBytes) throw new TensorFileError(`is cut off: tensor ${quoted(name)} ends beyond its end`);
    if (begin < at) throw new TensorFileError(`has tensor ${quoted(name)} overlapping with another`);
    if (begin > at) throw new TensorFileError(`has a hole of ${begin - at} bytes before tensor ${quoted(name)}`);
    at = end;
  }
  if (at < dataBytes) throw new TensorFileError(`has ${dataBytes - at} bytes behind its last tensor`);
}

function isCount(value: Json): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0);
}

/** JSON whose objects are maps, so that no name means anything to JavaScript. */
type Json = null | boolean | number | string | readonly Json[] | ReadonlyMap<string, Json>;

const BLANKS = ' \t\n\r';
const ATOM = /true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;

function parseJson(text: string): Json {
  let at = 0;
  const fail = (what: string): never => {
    throw new TensorFileError(`has a header that is not JSON: ${what} at character ${at}`);
  };
  /** Skips blanks and takes the character, if it is there. */
  const takes = (character: string): boolean => {
    while (at < text.length && BLANKS.includes(text[at] as string)) at++;
    if (text[at] !== character) return false;
    at++;
    return true;
  };
  const string = (): string => {
    if (!takes('"')) fail('no text');
    const begin = at - 1;
    for (;;) {
      const end = text.indexOf('"', at);
      if (end < 0) return fail('a text without an end');
      let slashes = 0;
      while (text[end - 1 - slashes] === '\\') slashes++;
      at = end + 1;
      if (slashes % 2 === 1) continue;
      try {
        return JSON.parse(text.slice(begin, at)) as string;
      } catch {
        return fail('a control character or a wrong escape in the text');
      }
    }
  };
  const atom = (): Json => {
    ATOM.lastIndex = at;
    const found = ATOM.exec(text)?.[0] ?? fail('no value');
    at += found.length;
    return JSON.parse(found) as Json;
  };
  /** What stands between brackets, separated by commas. */
  const list = (end: string, item: () => void): void => {
    if (takes(end)) return;
    do item();
    while (takes(','));
    if (!takes(end)) fail(`no ${end}`);
  };
  const value = (depth: number): Json => {
    if (depth > MAX_DEPTH) return fail(`more than ${MAX_DEPTH} brackets in each other`);
    if (takes('{')) {
      const map = new Map<string, Json>();
      list('}', () => {
        const name = string();
        if (map.has(name)) throw new TensorFileError(`has ${quoted(name)} twice in its header`);
        if (!takes(':')) fail('no colon');
        map.set(name, value(depth + 1));
      });
      return map;
    }
    if (takes('[')) {
      const items: Json[] = [];
      list(']', () => items.push(value(depth + 1)));
      return items;
    }
    if (text[at] === '"') return string();
    return atom();
  };
  const result = value(0);
  takes(' ');
  if (at < text.length) fail('more than one value');
  return result;
}
