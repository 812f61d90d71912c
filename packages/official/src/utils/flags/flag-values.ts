/*
 * FlagValues: a set of flags, their definitions, defaults, validators, and after parsing their values. It is what absl
 * calls FlagValues, as an object: each program (and each test) makes its own, so that two mains in one process do not
 * meet; core.ts keeps one default instance for programs that want absl's single namespace. It prints nothing and never
 * ends the process.
 */
import { FlagDefinitionError, UsageError } from './errors.js';
import { coerce, type FlagDefinition, type FlagKind, type FlagValue, isMulti, parseText } from './flag.js';
import { type Argument, expandFlagfiles } from './flagfile.js';
import { type ProgramDescription, renderHelp } from './help.js';
import { nearestName } from './nearest.js';

/**
 * The types of the flags' values by name. Each module that defines flags adds its own here by declaration merging, so
 * `flags.FLAGS.batch_size` is a number without a cast. A flag is there at run time only if it was defined.
 */
// biome-ignore lint/suspicious/noEmptyInterface: filled by declaration merging in the modules that define flags
export interface FlagTypes {}

/** Read access to the values by name: `flagsObj.batch_size`. Reading is checked, writing is refused. */
export type FlagsObject = Readonly<FlagTypes>;

/** What every DEFINE_ function takes. */
export interface DefineOptions<T> {
  name: string;
  default: T | null;
  help: string;
  /** Short name, for `-bs 64`. */
  shortName?: string;
  /** Heading in the help; default `Flags`. */
  group?: string;
  /** Listed by --help and not only by --helpfull; default false. */
  key?: boolean;
  /** May differ between the machines of one run: folders, threads, the screen. Default false: all workers must have it alike. */
  local?: boolean;
}

/** Options of numeric flags. */
export interface DefineNumberOptions<T> extends DefineOptions<T> {
  /** Smallest and largest allowed value, inclusive. */
  lowerBound?: number;
  upperBound?: number;
}

/** A person asked for help instead of a run: print `text`, exit with status 0. */
export interface HelpRequest {
  /** True for --helpfull. */
  readonly full: boolean;
  readonly text: string;
}

/** What became of a command line. */
export interface ParseResult {
  /** Not null when --help or --helpfull was given; the values are then not to be used. */
  readonly help: HelpRequest | null;
  /** Arguments that are no flags; empty unless `allowPositionals`. */
  readonly positionals: readonly string[];
}

export interface ParseOptions {
  /** Accept arguments that are no flags and return them; default false: they are an error. */
  allowPositionals?: boolean;
}

/** Passes when it returns something truthy; a falsy value or an exception fails (absl's rule). */
export type Validator = (value: FlagValue) => unknown;
/** The same over several flags at once; gets their values by name. */
export type MultiFlagsValidator = (values: Record<string, FlagValue>) => unknown;

interface RegisteredValidator {
  readonly names: readonly string[];
  readonly check: (values: Record<string, FlagValue>) => unknown;
  readonly message: string;
}

const BUILT_IN_GROUP = 'Help and flag files';
const BUILT_IN: readonly FlagDefinition[] = [
  builtIn('help', 'h', 'bool', 'Show the key flags and exit.'),
  builtIn('helpfull', null, 'bool', 'Show all flags and exit.'),
  builtIn(
    'flagfile',
    null,
    'string',
    'Read flags from this file, one a line; # or // begins a comment line; a file may name further files, relative to itself. Flags after it on the command line win.',
  ),
];

function builtIn(name: string, shortName: string | null, kind: FlagKind, help: string): FlagDefinition {
  const value = kind === 'bool' ? false : null;
  const none = { local: false, enumValues: null, words: null, lowerBound: null, upperBound: null };
  return { name, shortName, kind, default: value, help, group: BUILT_IN_GROUP, key: true, ...none };
}

/** A set of flags; see the head of this file. */
export class FlagValues {
  /** What the help says about the program; may be set at any time before parsing. */
  about: ProgramDescription;
  /** The values by name, read-only: `flags.FLAGS.batch_size`. Throws FlagDefinitionError before parsing. */
  readonly FLAGS: FlagsObject;

  readonly #definitions = new Map<string, FlagDefinition>();
  readonly #shortNames = new Map<string, string>();
  readonly #validators: RegisteredValidator[] = [];
  readonly #given = new Map<string, FlagValue>();
  #parsed = false;

  constructor(about: ProgramDescription = { program: 'lockstep' }) {
    this.about = about;
    for (const definition of BUILT_IN) {
      if (definition.shortName !== null) this.#shortNames.set(definition.shortName, definition.name);
    }
    this.FLAGS = this.#makeProxy();
  }

  // ---- definitions ----

  /** A text. */
  DEFINE_string(options: DefineOptions<string>): void {
    this.#define('string', options);
  }

  /** True or false: `--name`, `--noname`, `--name=true|false`. */
  DEFINE_bool(options: DefineOptions<boolean>): void {
    this.#define('bool', options);
  }

  /** A whole number; decimal, or hexadecimal with 0x; or one of `words`, where there are any. */
  DEFINE_integer(options: DefineNumberOptions<number> & { words?: readonly string[] }): void {
    this.#define('integer', options, options);
  }

  /** A number; `inf` and `nan` are numbers. */
  DEFINE_float(options: DefineNumberOptions<number>): void {
    this.#define('float', options, options);
  }

  /** One of `enumValues`, letters as written. */
  DEFINE_enum(options: DefineOptions<string> & { enumValues: readonly string[] }): void {
    if (options.enumValues.length === 0) {
      throw new FlagDefinitionError(`flag --${options.name}: an enum needs at least one allowed value.`);
    }
    this.#define('enum', options, { enumValues: options.enumValues });
  }

  /** Texts separated by commas; the default may be given as such a text. */
  DEFINE_list(options: DefineOptions<readonly string[] | string>): void {
    this.#define('list', options);
  }

  /** Texts, one per occurrence of the flag. */
  DEFINE_multi_string(options: DefineOptions<readonly string[] | string>): void {
    this.#define('multi_string', options);
  }

  /** Whole numbers, one per occurrence of the flag. */
  DEFINE_multi_integer(options: DefineNumberOptions<readonly number[] | number>): void {
    this.#define('multi_integer', options, options);
  }

  /** Numbers, one per occurrence of the flag. */
  DEFINE_multi_float(options: DefineNumberOptions<readonly number[] | number>): void {
    this.#define('multi_float', options, options);
  }

  #define(
    kind: FlagKind,
    options: DefineOptions<unknown>,
    extra: { enumValues?: readonly string[]; words?: readonly string[]; lowerBound?: number; upperBound?: number } = {},
  ): void {
    const { name, shortName = null, group = 'Flags' } = options;
    if (!/^[a-z][a-z0-9_]*$/i.test(name)) {
      throw new FlagDefinitionError(`'${name}' is no flag name. Use letters, digits and underscores.`);
    }
    for (const candidate of shortName === null ? [name] : [name, shortName]) {
      const other = this.#find(candidate);
      if (other !== null) {
        throw new FlagDefinitionError(
          `flag --${name} (${group}) uses the name '${candidate}', which --${other.name} (${other.group}) already has. Rename one, or use a new FlagValues for a second program.`,
        );
      }
    }
    const definition: FlagDefinition = {
      name,
      shortName,
      kind,
      default: null,
      help: options.help.replace(/\s+/g, ' ').trim(),
      group,
      local: options.local ?? false,
      key: options.key ?? false,
      enumValues: extra.enumValues ?? null,
      words: extra.words ?? null,
      lowerBound: extra.lowerBound ?? null,
      upperBound: extra.upperBound ?? null,
    };
    definition.default = coerce(definition, options.default);
    this.#definitions.set(name, definition);
    if (shortName !== null) this.#shortNames.set(shortName, name);
  }

  /** Marks flags as key flags, so that --help shows them. */
  declareKeyFlags(names: Iterable<string>): void {
    for (const name of names) this.#require(name).key = true;
  }

  /** All definitions, in the order in which they were made; read only. */
  definitions(): readonly Readonly<FlagDefinition>[] {
    return [...this.#definitions.values()];
  }

  /** True when a flag of that name (not short name) is defined. */
  has(name: string): boolean {
    return this.#definitions.has(name);
  }

  // ---- validators ----

  /** Adds a check of one flag, run after parsing. `message` says what the value should be. Must not touch files. */
  registerValidator(name: string, check: Validator, message: string): void {
    this.#require(name);
    this.#validators.push({ names: [name], check: (values) => check(values[name] ?? null), message });
  }

  /** Adds a check over several flags, run after parsing. Must not touch files. */
  registerMultiFlagsValidator(names: readonly string[], check: MultiFlagsValidator, message: string): void {
    for (const name of names) this.#require(name);
    this.#validators.push({ names: [...names], check, message });
  }

  #validate(): void {
    for (const { names, check, message } of this.#validators) {
      const values = Object.fromEntries(names.map((name) => [name, this.#value(name)]));
      let passed: unknown;
      let reason = message;
      try {
        passed = check(values);
      } catch (error) {
        passed = false;
        if (error instanceof Error) reason = `${message} (${error.message})`;
      }
      if (passed) continue;
      const written = names.map((name) => `--${name}=${printable(values[name]!)}`).join(', ');
      throw new UsageError(`${names.length > 1 ? 'flags' : 'flag'} ${written}: ${reason}`, {
        flag: names[0]!,
        value: printable(values[names[0]!]!),
        remedy: `See ${this.about.program} --helpfull for ${names.map((name) => `--${name}`).join(' and ')}.`,
      });
    }
  }

  // ---- defaults and values ----

  /**
   * Replaces defaults (upstream's `set_defaults`). A value given on the command line still wins.
   *
   * @throws FlagDefinitionError for an unknown flag or a value of another kind.
   */
  setDefaults(defaults: Partial<FlagTypes> & Record<string, unknown>): void {
    for (const [name, value] of Object.entries(defaults)) {
      const definition = this.#require(name);
      definition.default = coerce(definition, value);
    }
  }

  /** The value of a flag: as given, else its default. @throws FlagDefinitionError if unknown or before parsing. */
  get<K extends keyof FlagTypes>(name: K): FlagTypes[K];
  get(name: string): FlagValue;
  get(name: string): FlagValue {
    this.#require(name);
    if (!this.#parsed) {
      throw new FlagDefinitionError(
        `flag --${name} was read before the flags were parsed. Call parseFlags(argv) first.`,
      );
    }
    return this.#value(name);
  }

  /** True when the flag was given on the command line or in a flag file, whatever its value. */
  isGiven(name: string): boolean {
    this.#require(name);
    return this.#given.has(name);
  }

  /**
   * Sets a value as if it had been given, and runs the validators again. For tests and for programs that drive another
   * one; flags are not variables, so the run loop does not use it.
   */
  set(name: string, value: unknown): void {
    const definition = this.#require(name);
    const before = new Map(this.#given);
    this.#given.set(name, coerce(definition, value));
    try {
      if (this.#parsed) this.#validate();
    } catch (error) {
      this.#given.clear();
      for (const [key, old] of before) this.#given.set(key, old);
      throw error;
    }
  }

  /** All values by name as a plain object, which can be sent to a worker thread. */
  values(): FlagTypes {
    // The declared type of each name is the type its DEFINE_ call produces; TypeScript cannot see that connection.
    const entries = [...this.#definitions.keys()].map((name) => [name, this.get(name)] as const);
    return Object.fromEntries(entries) as unknown as FlagTypes;
  }

  // ---- parsing ----

  /**
   * Reads a command line (without the program's name). Values of an earlier parse are forgotten first.
   *
   * @returns the help request, if there was one, and the arguments that are no flags.
   * @throws UsageError naming flag, value and remedy. Asking for help wins over any error.
   */
  parse(argv: readonly string[], options: ParseOptions = {}): ParseResult {
    this.unparse();
    const help = this.#helpRequest(argv);
    if (help !== null) return { help, positionals: [] };

    const args = expandFlagfiles(argv);
    const positionals: string[] = [];
    let previousBool: string | null = null;
    for (let i = 0; i < args.length; i++) {
      const argument = args[i]!;
      if (argument.text === '--') {
        positionals.push(...args.slice(i + 1).map(({ text }) => text));
        break;
      }
      if (!argument.text.startsWith('-') || argument.text === '-') {
        if (!options.allowPositionals) throw this.#unexpected(argument, previousBool);
        positionals.push(argument.text);
        previousBool = null;
        continue;
      }
      const { definition, negated, text } = this.#resolve(argument);
      previousBool = null;
      if (definition.kind === 'bool' && text === null) {
        this.#given.set(definition.name, !negated);
        previousBool = definition.name;
        continue;
      }
      let value = text;
      if (value === null) value = this.#separateValue(definition, argument, args[++i]);
      this.#accept(definition, value, argument.origin);
    }
    if (positionals.length > 0 && !options.allowPositionals) {
      throw this.#unexpected({ text: positionals[0]!, origin: '' }, null);
    }
    this.#parsed = true;
    try {
      this.#validate();
    } catch (error) {
      this.#parsed = false;
      throw error;
    }
    return { help: null, positionals };
  }

  /** Forgets all given values; reading is an error until the next parse. Defaults stay. */
  unparse(): void {
    this.#given.clear();
    this.#parsed = false;
  }

  /** The help text: key flags, or all of them. */
  helpText(full = false): string {
    return renderHelp([...this.#definitions.values(), ...BUILT_IN], this.about, full);
  }

  /** Help is asked for by a literal argument before `--`; a flag file cannot ask for it. */
  #helpRequest(argv: readonly string[]): HelpRequest | null {
    const end = argv.indexOf('--');
    const args = end === -1 ? argv : argv.slice(0, end);
    const full = args.some((text) => /^--?helpfull$/.test(text));
    if (!full && !args.some((text) => /^--?(help|h)$/.test(text))) return null;
    return { full, text: this.helpText(full) };
  }

  #accept(definition: FlagDefinition, text: string, origin: string): void {
    const value = parseText(definition, text, origin);
    if (isMulti(definition.kind)) {
      const before = (this.#given.get(definition.name) ?? []) as readonly (string | number)[];
      this.#given.set(definition.name, [...before, value] as FlagValue);
    } else {
      this.#given.set(definition.name, value);
    }
  }

  /** The argument after `--flag`: its value, unless it looks like the next flag. A negative number is a value. */
  #separateValue(definition: FlagDefinition, argument: Argument, next: Argument | undefined): string {
    const missing = next === undefined || (/^--?[a-z]/i.test(next.text) && !/^-inf|^-nan/i.test(next.text));
    if (!missing) return next.text;
    const after = next === undefined ? 'nothing follows' : `${next.text} follows`;
    throw new UsageError(`flag --${definition.name}${argument.origin}: a value is missing; ${after}`, {
      flag: definition.name,
      remedy:
        next === undefined
          ? `Write --${definition.name}=VALUE.`
          : `Write --${definition.name}=VALUE, or --${definition.name}=${next.text} if that is the value.`,
    });
  }

  #resolve(argument: Argument): { definition: FlagDefinition; negated: boolean; text: string | null } {
    const match = /^--?([^=]*)(?:=(.*))?$/s.exec(argument.text)!;
    const name = match[1]!;
    const text = match[2] ?? null;
    const definition = this.#find(name);
    if (definition !== null) return { definition, negated: false, text };
    const positive = name.startsWith('no') ? this.#find(name.slice(2)) : null;
    if (positive === null) throw this.#unknown(argument, name, text);
    if (positive.kind !== 'bool') {
      throw new UsageError(`flag --${name}${argument.origin}: --${positive.name} is no true/false flag`, {
        flag: positive.name,
        remedy: `Leave it out for its default, or write --${positive.name}=VALUE.`,
      });
    }
    if (text !== null) {
      throw new UsageError(`flag --${name}=${text}${argument.origin}: --${name} takes no value`, {
        flag: positive.name,
        value: text,
        remedy: `Write --${name}, or --${positive.name}=true or --${positive.name}=false.`,
      });
    }
    return { definition: positive, negated: true, text };
  }

  #unknown(argument: Argument, name: string, text: string | null): UsageError {
    const known = [...this.#definitions.values(), ...BUILT_IN];
    const names = known.flatMap(({ name, kind }) =>
      kind === 'bool' && !isBuiltIn(name) ? [name, `no${name}`] : [name],
    );
    const shortNames = name.length <= 3 ? [...this.#shortNames.keys()] : [];
    const nearest = nearestName(name, [...names, ...shortNames])!;
    const written = `--${nearest.name}${text === null ? '' : `=${text}`}`;
    return new UsageError(`Unknown command line flag '${argument.text}'${argument.origin}`, {
      flag: name,
      value: text,
      remedy: `${nearest.likely ? `Did you mean ${written}?` : `The nearest known flag is --${nearest.name}.`} All flags: ${this.about.program} --helpfull.`,
    });
  }

  #unexpected(argument: Argument, previousBool: string | null): UsageError {
    const { text } = argument;
    const remedy =
      previousBool !== null && /^(true|false|t|f|0|1|yes|no)$/i.test(text)
        ? `A true/false flag takes its value with =: --${previousBool}, --no${previousBool} or --${previousBool}=${text}.`
        : this.#find(text.split('=')[0]!) !== null
          ? `A flag begins with two dashes: --${text}.`
          : 'Flags are written --flag=value or --flag value, without blanks around the =.';
    return new UsageError(`Unexpected argument '${text}'${argument.origin}`, { value: text, remedy });
  }

  // ---- look-ups ----

  #find(nameOrShort: string): FlagDefinition | null {
    const name = this.#shortNames.get(nameOrShort) ?? nameOrShort;
    return this.#definitions.get(name) ?? BUILT_IN.find((definition) => definition.name === name) ?? null;
  }

  #require(name: string): FlagDefinition {
    const definition = this.#definitions.get(name);
    if (definition !== undefined) return definition;
    const nearest = nearestName(name, this.#definitions.keys());
    throw new FlagDefinitionError(
      `flag --${name} is not defined${nearest === null ? '; no flags are' : `; the nearest is --${nearest.name}`}. Define it before it is used.`,
    );
  }

  #value(name: string): FlagValue {
    const given = this.#given.get(name);
    return given === undefined ? this.#definitions.get(name)!.default : given;
  }

  #makeProxy(): FlagsObject {
    const refuse = (_target: object, property: string | symbol): never => {
      throw new FlagDefinitionError(
        `flag --${String(property)} cannot be assigned: flags are read-only. Use setDefaults, or a getter such as getLossScale.`,
      );
    };
    return new Proxy(Object.create(null) as object, {
      // Symbols and `then` are asked for by the language itself (inspection, await); they are no flags.
      get: (_target, property) =>
        typeof property === 'symbol' || property === 'then' ? undefined : this.get(property),
      has: (_target, property) => typeof property === 'string' && this.has(property),
      ownKeys: () => [...this.#definitions.keys()],
      getOwnPropertyDescriptor: (_target, property) =>
        typeof property === 'string' && this.has(property)
          ? { value: this.get(property), enumerable: true, configurable: true, writable: false }
          : undefined,
      set: refuse,
      deleteProperty: refuse,
      defineProperty: refuse,
    }) as FlagsObject;
  }
}

function isBuiltIn(name: string): boolean {
  return BUILT_IN.some((definition) => definition.name === name);
}

function printable(value: FlagValue): string {
  return value === null ? 'none' : Array.isArray(value) ? value.join(',') : String(value);
}
