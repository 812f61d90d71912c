/**
 * What can be typed after `lockstep`, as data for the scripts of all shells: commands, their flags, and the values of these. It is
 * made from the definitions that the commands themselves parse with, so a flag that comes or goes does so here, too.
 */
import type { FlagDefinition, FlagValues } from '@lockstep/official/utils/flags/core';

/** A command, or a command of a command. */
export interface Words {
  /** As it is typed: 'cifar10', 'bench resnet'; '' is `lockstep` itself. */
  readonly path: string;
  /** One line. */
  readonly summary: string;
  /** Words that may come next. */
  readonly commands: readonly string[];
  readonly flags: readonly FlagWords[];
}

export interface FlagWords {
  /** Without dashes. */
  readonly name: string;
  readonly help: string;
  /** `none`: it stands alone. */
  readonly value: 'none' | 'any' | 'file' | readonly string[];
}

/** Those that every command has. */
const ALWAYS: readonly FlagWords[] = [
  { name: 'help', help: 'Lists the key flags.', value: 'none' },
  { name: 'helpfull', help: 'Lists all flags.', value: 'none' },
  { name: 'flagfile', help: 'Reads flags from a file.', value: 'file' },
];

/** Flags as they are typed: a true/false flag is two. */
export function flagWords(flags: FlagValues | undefined): FlagWords[] {
  if (!flags) return [];
  return [...flags.definitions().flatMap(wordsOf), ...ALWAYS];
}

function wordsOf(definition: FlagDefinition): FlagWords[] {
  const { name, kind, enumValues, words } = definition;
  const help = firstSentence(definition.help);
  if (kind === 'bool') {
    return [
      { name, help, value: 'none' },
      { name: `no${name}`, help: `Not: ${help}`, value: 'none' },
    ];
  }
  // The Model Garden's names of what is a path.
  const isPath = /(_dir|_path|_file|^hostfile|^python)$/.test(name);
  return [{ name, help, value: enumValues ?? words ?? (isPath ? 'file' : 'any') }];
}

function firstSentence(help: string): string {
  const [sentence] = help.replaceAll(/\s+/g, ' ').split(/(?<=[^.]{3}\.) (?=[A-Z-])/) as [string];
  return sentence.length <= 90 ? sentence : `${sentence.slice(0, 88).replace(/\s\S*$/, '')} …`;
}
