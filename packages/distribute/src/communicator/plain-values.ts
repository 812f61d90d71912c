/**
 * Values as text and back, for what replicas and processes tell each other: JSON, plus what JSON loses without a word.
 *
 * NaN, ±Infinity, −0, undefined, bigints, dates, maps, sets and typed arrays arrive as they were sent. What JSON cannot hold is
 * written as {"$": kind, "v": content}; an object of the user's that has a member `$` is wrapped, so nothing is mistaken. What
 * could not arrive (a function, a tensor) is refused where it is handed over, with its place.
 */
import { host } from '#host';

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

const TYPED_ARRAYS = {
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
};

/**
 * Text that {@link parseValues} turns into an equal value.
 * @param what Names the value in errors: 'the value' gives "the value.losses[2] is a function".
 * @throws TypeError naming the first part that cannot be sent: a function, a symbol, a promise, a tensor, a cycle.
 */
export function stringifyValues(value: unknown, what = 'the value'): string {
  return JSON.stringify(encode(value, what, new Set()));
}

/** The value that {@link stringifyValues} was given. */
export function parseValues(text: string): unknown {
  return decode(JSON.parse(text) as Json);
}

function encode(value: unknown, at: string, above: Set<object>): Json {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value;
    case 'number':
      return Number.isFinite(value) && !Object.is(value, -0) ? value : tagged('number', numberName(value));
    case 'undefined':
      return tagged('undefined');
    case 'bigint':
      return tagged('bigint', String(value));
    case 'function':
    case 'symbol':
      throw cannotSend(`${at} is a ${typeof value}`);
  }
  if (value === null) return null;
  const object = value as object;
  if (above.has(object)) throw cannotSend(`${at} contains itself`);
  above.add(object);
  try {
    return encodeObject(object, at, above);
  } finally {
    above.delete(object);
  }
}

function encodeObject(object: object, at: string, above: Set<object>): Json {
  if (Array.isArray(object)) return Array.from(object, (element, i) => encode(element, `${at}[${i}]`, above));
  if (ArrayBuffer.isView(object)) {
    const name = Object.entries(TYPED_ARRAYS).find(([, Kind]) => object instanceof Kind)?.[0];
    if (!name) throw cannotSend(`${at} is a ${object.constructor.name}`);
    return tagged(name, host.toBase64(new Uint8Array(object.buffer, object.byteOffset, object.byteLength)));
  }
  // Number, String and Boolean objects, as JSON.
  if (object instanceof Number || object instanceof String || object instanceof Boolean) {
    return encode(object.valueOf(), at, above);
  }
  if (object instanceof Date) return tagged('Date', encode(object.getTime(), at, above));
  if (object instanceof Map) return tagged('Map', encode([...object], at, above));
  if (object instanceof Set) return tagged('Set', encode([...object], at, above));
  if (object instanceof Promise) throw cannotSend(`${at} is a promise`, 'await it first.');
  if (isTensor(object)) {
    throw cannotSend(
      `${at} is a tensor of shape [${object.shape}]`,
      'send its values, tensor.dataSync(); context.allReduce() sums or averages tensors.',
    );
  }
  const { toJSON } = object as { toJSON?: unknown };
  if (typeof toJSON === 'function') return encode(toJSON.call(object, ''), at, above);
  const members = Object.fromEntries(
    Object.entries(object).map(([name, member]) => [name, encode(member, `${at}.${name}`, above)]),
  );
  return Object.hasOwn(members, '$') ? tagged('object', members) : members;
}

function decode(json: Json): unknown {
  if (typeof json !== 'object' || json === null) return json;
  if (Array.isArray(json)) return json.map(decode);
  if (!Object.hasOwn(json, '$')) return decodeMembers(json);
  const { $: kind, v: content } = json as { $: string; v: Json };
  switch (kind) {
    case 'number':
      return Number(content);
    case 'undefined':
      return undefined;
    case 'bigint':
      return BigInt(content as string);
    case 'Date':
      return new Date(decode(content) as number);
    case 'Map':
      return new Map(decode(content) as [unknown, unknown][]);
    case 'Set':
      return new Set(decode(content) as unknown[]);
    case 'object':
      return decodeMembers(content as { [name: string]: Json });
    default: {
      const Kind = TYPED_ARRAYS[kind as keyof typeof TYPED_ARRAYS];
      return new Kind(host.fromBase64(content as string).buffer);
    }
  }
}

/** Members one by one: `__proto__` stays a member like any other. */
function decodeMembers(members: { [name: string]: Json }): object {
  return Object.fromEntries(Object.entries(members).map(([name, member]) => [name, decode(member)]));
}

function tagged(kind: string, content?: Json): Json {
  return content === undefined ? { $: kind } : { $: kind, v: content };
}

function numberName(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}

/** TensorFlow.js' own test needs TensorFlow.js; these are the members that only a tensor has. */
function isTensor(object: object): object is { shape: number[] } {
  return 'dataId' in object && 'shape' in object && 'dtype' in object;
}

function cannotSend(what: string, help = 'send numbers, strings, arrays, typed arrays, plain objects, maps and sets.') {
  return new TypeError(
    `${what[0]?.toUpperCase()}${what.slice(1)}, which cannot be sent to other replicas.\nhelp: ${help}`,
  );
}
