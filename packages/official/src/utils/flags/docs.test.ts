/*
 * docs/flags.md against the definitions. The tables must be the generated ones, and the text around them may name no
 * flag that does not exist. To write the tables anew: UPDATE_DOCS=1 node --test packages/official/dist/utils/flags/docs.test.js
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { defineCifarFlags, defineImagenetFlags } from '../../resnet/resnet-flags.js';
import { defineDevice, definePerformance, FlagValues } from './core.js';
import { formatValue } from './flag.js';
import { flagTables, TABLES_BEGIN, TABLES_END } from './markdown.js';

const PAGE = new URL('../../../../../docs/flags.md', import.meta.url);

const cifar = defineCifarFlags(new FlagValues());
const imagenet = defineImagenetFlags(new FlagValues());

function tables(): string {
  const defaults = new Map(imagenet.definitions().map((definition) => [definition.name, definition.default]));
  const different = cifar
    .definitions()
    .filter(({ name, default: value }) => formatValue(defaults.get(name) ?? null) !== formatValue(value))
    .map(({ name }) => [name, `ImageNet \`${formatValue(defaults.get(name)!)}\``] as const);
  return flagTables(cifar.definitions(), Object.fromEntries(different));
}

describe('docs/flags.md', () => {
  let page = readFileSync(PAGE, 'utf8');
  const begin = page.indexOf(TABLES_BEGIN) + TABLES_BEGIN.length;
  const end = page.indexOf(TABLES_END);

  it('has the tables of the definitions', () => {
    assert.ok(begin > TABLES_BEGIN.length && end > begin, 'the marks are missing');
    if (process.env.UPDATE_DOCS) {
      page = `${page.slice(0, begin)}\n\n${tables()}\n\n${page.slice(end)}`;
      writeFileSync(PAGE, page);
      return;
    }
    assert.equal(page.slice(begin, end).trim(), tables(), 'Write the tables anew with UPDATE_DOCS=1.');
  });

  it('names every flag of the mains, and none that does not exist', () => {
    const known = new Set(['help', 'helpfull', 'flagfile']);
    for (const { name, shortName, kind } of [...cifar.definitions(), ...imagenet.definitions()]) {
      assert.ok(page.includes(`\`--${name}\``), name);
      known.add(name);
      if (shortName !== null) known.add(shortName);
      if (kind === 'bool') known.add(`no${name}`);
    }
    const others = new FlagValues();
    definePerformance({ inter_op: false, intra_op: false }, others);
    defineDevice({}, others);
    for (const { name } of others.definitions()) known.add(name);
    // `flag` and `noflag` stand for any flag, and `batch-size` is the example of a mistake.
    for (const name of ['flag', 'noflag', 'batch-size']) known.add(name);
    for (const [, name] of page.matchAll(/--([a-z][\w-]*)/g)) assert.ok(known.has(name!), `--${name} is no flag`);
  });

  it('shows the error that a mistyped flag gives', () => {
    const flags = defineCifarFlags(new FlagValues({ program: 'lockstep cifar10' }));
    assert.throws(
      () => flags.parse(['--batch-size=64']),
      (error: Error) => page.includes(`$ lockstep cifar10 --batch-size=64\n${error.message}\n`),
    );
  });
});
