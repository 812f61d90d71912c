/*
 * The tables of docs/flags.md, made from the definitions, so that the page cannot say anything else than --helpfull.
 * A test compares the page with them; `UPDATE_DOCS=1` makes that test write the page.
 */
import { type FlagDefinition, formatValue, valueWord } from './flag.js';

/** The lines between which docs/flags.md is generated. */
export const TABLES_BEGIN =
  '<!-- tables: begin (made from the definitions; see packages/official/src/utils/flags/docs.test.ts) -->';
export const TABLES_END = '<!-- tables: end -->';

const cell = (text: string) => text.replaceAll('|', '\\|');
const code = (text: string) => `\`${cell(text)}\``;

function values(definition: FlagDefinition): string {
  if (definition.kind === 'enum') return definition.enumValues!.map(code).join(', ');
  const { lowerBound, upperBound } = definition;
  const word = { bool: 'true/false', integer: 'integer', float: 'number', list: 'list' }[definition.kind as string];
  const range =
    lowerBound !== null && upperBound !== null
      ? `, ${lowerBound} to ${upperBound}`
      : lowerBound !== null
        ? ` ≥ ${lowerBound}`
        : upperBound !== null
          ? ` ≤ ${upperBound}`
          : '';
  const words = (definition.words ?? []).map((one) => ` or ${code(one)}`).join('');
  return `${word ?? valueWord(definition).toLowerCase()}${range}${words}`;
}

/**
 * One table per group of flags, in the order of definition: name, short name, values, default, meaning and effect. Key
 * flags are in bold face.
 *
 * @param otherDefaults for each flag whose default differs in another program: a text for the cell, after the default.
 */
export function flagTables(
  definitions: readonly FlagDefinition[],
  otherDefaults: Readonly<Record<string, string>> = {},
): string {
  const groups = [...new Set(definitions.map(({ group }) => group))];
  return groups
    .map((group) => {
      const rows = definitions
        .filter((definition) => definition.group === group)
        .map((definition) => {
          const name = definition.key ? `**${code(`--${definition.name}`)}**` : code(`--${definition.name}`);
          const short = definition.shortName === null ? '' : code(`-${definition.shortName}`);
          const standard = definition.default === null ? 'none' : code(formatValue(definition.default));
          const other = otherDefaults[definition.name];
          const defaults = other === undefined ? standard : `${standard}; ${cell(other)}`;
          return `| ${[name, short, values(definition), defaults, cell(definition.help)].join(' | ')} |`;
        });
      const head = '| flag | short | values | default | meaning and effect |\n|---|---|---|---|---|';
      return `### ${group}\n\n${head}\n${rows.join('\n')}`;
    })
    .join('\n\n');
}
