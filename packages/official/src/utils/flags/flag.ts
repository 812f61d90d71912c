/*
 * One flag: its definition, and how the text that a person typed becomes a value (and back). It knows nothing about
 * other flags, about the command line, or about where a value is kept; that is flag-values.ts. The kinds and their
 * accepted texts are absl's.
 */
import { FlagDefinitionError, UsageError } from './errors.js';

/** The value of any flag. null stands for Python's None: no value was given and there is no default. */
export type FlagValue = string | number | boolean | readonly string[] | readonly number[] | null;

/** What a flag holds. The multi_ kinds collect one value per occurrence; every other kind keeps the last one. */
export type FlagKind =
  | 'string'
  | 'bool'
  | 'integer'
  | 'float'
  | 'enum'
  | 'list'
  | 'multi_string'
  | 'multi_integer'
  | 'multi_float';

/** Everything that is known about a flag before a command line is read. */
export interface FlagDefinition {
  /** The name, snake_case, without dashes. */
  readonly name: string;
  /** Short name, written with one dash or two (`-bs 64`, `--bs=64`). */
  readonly shortName: string | null;
  readonly kind: FlagKind;
  /** The default in force: the definition's own, or the one that setDefaults put in its place. */
  default: FlagValue;
  /** What the flag means and does; plain text, wrapped when printed. */
  readonly help: string;
  /** Heading under which the help lists it. */
  readonly group: string;
  /** Whether it may differ between the machines of a run: folders, threads, the screen. */
  readonly local: boolean;
  /** Key flags are listed by --help, the others by --helpfull only. */
  key: boolean;
  /** The allowed texts of an enum. */
  readonly enumValues: readonly string[] | null;
  /** Words that a number may be said by instead: `auto`. */
  readonly words: readonly string[] | null;
  /** Smallest and largest allowed number, both inclusive. */
  readonly lowerBound: number | null;
  readonly upperBound: number | null;
}

const TRUE_TEXTS = ['true', 't', '1'];
const FALSE_TEXTS = ['false', 'f', '0'];
const INTEGER = /^[+-]?(\d+|0[xX][0-9a-fA-F]+)$/;
const FLOAT = /^[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity|nan)$/i;

/** True for the kinds that collect every occurrence. */
export function isMulti(kind: FlagKind): boolean {
  return kind.startsWith('multi_');
}

/** The word or words that stand for the value in help texts: `INTEGER`, `fp16|fp32`, `A,B,...`. */
export function valueWord(definition: FlagDefinition): string {
  switch (definition.kind) {
    case 'enum':
      return definition.enumValues!.join('|');
    case 'list':
      return 'A,B,...';
    case 'float':
    case 'multi_float':
      return 'NUMBER';
    case 'integer':
    case 'multi_integer':
      return ['INTEGER', ...(definition.words ?? [])].join('|');
    default:
      return 'STRING';
  }
}

/** A value as a person would type it: lists joined by commas, null as `none`, an empty text as `''`. */
export function formatValue(value: FlagValue): string {
  if (value === null) return 'none';
  if (Array.isArray(value)) return value.length === 0 ? "''" : value.join(',');
  if (typeof value === 'number' && value !== 0 && Math.abs(value) < 1e-3) return value.toExponential();
  return value === '' ? "''" : String(value);
}

/** `flag --name=value: problem`, the shape of every error about a value (absl's shape). */
function valueError(
  definition: FlagDefinition,
  text: string,
  problem: string,
  remedy: string,
  origin: string,
): UsageError {
  return new UsageError(`flag --${definition.name}=${text}${origin}: ${problem}`, {
    flag: definition.name,
    value: text,
    remedy,
  });
}

function parseNumber(definition: FlagDefinition, text: string, integer: boolean, origin: string): number | string {
  const trimmed = text.trim();
  if (definition.words?.includes(trimmed)) return trimmed;
  if (!(integer ? INTEGER : FLOAT).test(trimmed)) {
    const example = formatValue(typeof definition.default === 'number' ? definition.default : integer ? 1 : 0.5);
    throw valueError(
      definition,
      text,
      `value should be ${[integer ? 'an integer' : 'a number', ...(definition.words ?? [])].join(' or ')}`,
      `Write it like --${definition.name}=${example}.`,
      origin,
    );
  }
  const lower = trimmed.toLowerCase();
  const unsigned = lower.replace(/^[+-]/, '');
  const sign = lower.startsWith('-') ? -1 : 1;
  const magnitude = unsigned.startsWith('inf')
    ? Number.POSITIVE_INFINITY
    : unsigned === 'nan'
      ? Number.NaN
      : Number(unsigned);
  const value = sign * magnitude;
  if (integer && !Number.isSafeInteger(value)) {
    throw valueError(
      definition,
      text,
      'value is too large for an integer',
      `Use a value between ${Number.MIN_SAFE_INTEGER} and ${Number.MAX_SAFE_INTEGER}.`,
      origin,
    );
  }
  checkBounds(definition, value, text, origin);
  return Object.is(value, -0) ? 0 : value;
}

function checkBounds(definition: FlagDefinition, value: number, text: string, origin: string): void {
  const { lowerBound, upperBound } = definition;
  const tooLow = lowerBound !== null && !(value >= lowerBound);
  const tooHigh = upperBound !== null && !(value <= upperBound);
  if (!tooLow && !tooHigh) return;
  const range =
    lowerBound !== null && upperBound !== null
      ? `in the range [${lowerBound}, ${upperBound}]`
      : lowerBound !== null
        ? `at least ${lowerBound}`
        : `at most ${upperBound}`;
  const remedy =
    definition.default === null
      ? `Choose a value ${range}, or leave the flag out.`
      : `Choose a value ${range}; the default is ${formatValue(definition.default)}.`;
  throw valueError(definition, text, `value should be ${range}`, remedy, origin);
}

/** Splits comma-separated text; blanks around items are dropped, an empty text is an empty list. */
export function splitList(text: string): string[] {
  return text.trim() === '' ? [] : text.split(',').map((item) => item.trim());
}

/**
 * Turns typed text into a value of the flag's kind (one element for the multi_ kinds).
 *
 * @param origin where the text came from, ` (run.flags, line 3)` or empty; goes into the error.
 * @throws UsageError when the text is not a value of that kind or is outside the bounds.
 */
export function parseText(definition: FlagDefinition, text: string, origin = ''): string | number | boolean | string[] {
  switch (definition.kind) {
    case 'string':
    case 'multi_string':
      return text;
    case 'integer':
    case 'multi_integer':
      return parseNumber(definition, text, true, origin);
    case 'float':
    case 'multi_float':
      return parseNumber(definition, text, false, origin);
    case 'list':
      return splitList(text);
    case 'bool': {
      const lower = text.trim().toLowerCase();
      if (TRUE_TEXTS.includes(lower)) return true;
      if (FALSE_TEXTS.includes(lower)) return false;
      const name = definition.name;
      throw valueError(
        definition,
        text,
        'value should be true or false',
        `Write --${name}, --no${name}, --${name}=true or --${name}=false.`,
        origin,
      );
    }
    case 'enum': {
      if (definition.enumValues!.includes(text)) return text;
      const folded = definition.enumValues!.find((candidate) => candidate.toLowerCase() === text.trim().toLowerCase());
      const remedy =
        folded !== undefined
          ? `Letters count as written: --${definition.name}=${folded}.`
          : definition.default === null
            ? 'Choose one of them, or leave the flag out.'
            : `Choose one of them; the default is ${formatValue(definition.default)}.`;
      throw valueError(
        definition,
        text,
        `value should be one of <${definition.enumValues!.join('|')}>`,
        remedy,
        origin,
      );
    }
  }
}

/**
 * Checks a value that a program gives (a default, or an assignment) and returns it in the flag's own form: text for a
 * number, boolean, list or enum goes through the same parser as the command line.
 *
 * @throws FlagDefinitionError when the value is of another type; UsageError when it is out of bounds or unreadable.
 */
export function coerce(definition: FlagDefinition, value: unknown): FlagValue {
  if (value === null || value === undefined) return null;
  const wrong = () =>
    new FlagDefinitionError(
      `flag --${definition.name}: ${JSON.stringify(value)} is no value of kind ${definition.kind}. Give ${article(definition.kind)} value, or text that the command line would accept.`,
    );
  const isList = definition.kind === 'list' || isMulti(definition.kind);
  if (isList && Array.isArray(value)) {
    if (definition.kind === 'list' || definition.kind === 'multi_string') {
      if (!value.every((item) => typeof item === 'string')) throw wrong();
      return [...(value as string[])];
    }
    return value.map((item) => parseText(definition, String(item)) as number);
  }
  if (isMulti(definition.kind)) return [parseText(definition, String(value))] as FlagValue;
  switch (typeof value) {
    case 'string':
      return parseText(definition, value);
    case 'boolean':
      if (definition.kind !== 'bool') throw wrong();
      return value;
    case 'number':
      if (definition.kind === 'string' || definition.kind === 'enum') return parseText(definition, String(value));
      if (definition.kind !== 'integer' && definition.kind !== 'float') throw wrong();
      if (definition.kind === 'integer' && !Number.isSafeInteger(value)) throw wrong();
      checkBounds(definition, value, String(value), '');
      return value;
    default:
      throw wrong();
  }
}

function article(kind: FlagKind): string {
  return `${/^[aeiou]/.test(kind) ? 'an' : 'a'} ${kind}`;
}
