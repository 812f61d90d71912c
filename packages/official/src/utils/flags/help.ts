/*
 * The text of --help and --helpfull, made from the definitions alone. --help lists the key flags, --helpfull all of
 * them, both under the headings of the modules that define them, each with its default and its allowed values.
 */
import { HELP_WIDTH, helpWrap } from './conventions.js';
import { type FlagDefinition, formatValue, valueWord } from './flag.js';

/** What the help says about the program itself. */
export interface ProgramDescription {
  /** How the program is called: `lockstep cifar10`. */
  program: string;
  /** One or two sentences: what it does. */
  summary?: string;
  /** Whole command lines worth copying. */
  examples?: readonly string[];
}

/** The flag as it is typed: `--batch_size=INTEGER, -bs`, `--[no]clean`. */
export function flagSyntax(definition: FlagDefinition): string {
  const long =
    definition.kind === 'bool' ? `--[no]${definition.name}` : `--${definition.name}=${valueWord(definition)}`;
  return definition.shortName === null ? long : `${long}, -${definition.shortName}`;
}

function bounds({ lowerBound, upperBound }: FlagDefinition): string {
  if (lowerBound !== null && upperBound !== null) return `; from ${lowerBound} to ${upperBound}`;
  if (lowerBound !== null) return `; at least ${lowerBound}`;
  return upperBound !== null ? `; at most ${upperBound}` : '';
}

function renderFlag(definition: FlagDefinition): string {
  const facts = `(default: ${formatValue(definition.default)}${bounds(definition)}${
    definition.kind.startsWith('multi_') ? '; may be repeated' : ''
  })`;
  return `  ${flagSyntax(definition)}\n${helpWrap(`${definition.help} ${facts}`, HELP_WIDTH, 6)}`;
}

/**
 * Renders the help text.
 *
 * @param full false: key flags only; true: all flags.
 */
export function renderHelp(definitions: readonly FlagDefinition[], about: ProgramDescription, full: boolean): string {
  const parts: string[] = [];
  if (about.summary) parts.push(helpWrap(about.summary));
  parts.push(`Usage: ${about.program} [--flag=value ...]`);
  if (about.examples?.length) parts.push(`Examples:\n${about.examples.map((line) => `  ${line}`).join('\n')}`);

  const shown = definitions.filter((definition) => full || definition.key);
  for (const group of new Set(shown.map((definition) => definition.group))) {
    const flags = shown.filter((definition) => definition.group === group);
    parts.push(`${group}:\n${flags.map(renderFlag).join('\n')}`);
  }

  parts.push(
    helpWrap(
      'Write --flag=value or --flag value; a true/false flag is --flag or --noflag. The last occurrence wins. ' +
        '--flagfile=PATH reads flags from a file, one a line, # for comments.' +
        (full ? '' : ` ${definitions.length - shown.length} more flags: --helpfull.`),
    ),
  );
  return `${parts.join('\n\n')}\n`;
}
