// The check of the documentation itself: it finds what is wrong, says on which line of the page, and lets what is right be.
import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { typeProblems } from './check-docs.mjs';
import { blocksOf, programsOf } from './docs-blocks.mjs';
import { checkCommands, unknownFlags } from './docs-commands.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const page = (...lines) => blocksOf('page.md', `${lines.join('\n')}\n`);
const types = async (...lines) => (await typeProblems([{ file: 'page.md', ...page(...lines) }])).problems;

it('a type that is wrong is found, on its line; what @lockstep/onednn adds to TensorFlow.js is known', async () => {
  const wrong = await types(
    ...['# A page', '', '```ts', "import '@lockstep/onednn';", "import * as tf from '@tensorflow/tfjs';"],
    ...["tf.backend().precision = 'bf16';", 'tf.backend().runtime.threads = 1;', 'console.log(tf.memory().peakBytes);'],
    ...['console.log(tf.memory().peakBits);', '```', '', '```ts'],
    ...["import { onednn } from '@lockstep/onednn';", "onednn().precision = 'f64';", '```'],
  );
  assert.equal(wrong.length, 2, wrong.join('\n'));
  assert.match(wrong[0], /^page\.md:9: error TS2551: Property 'peakBits' does not exist/);
  assert.match(wrong[1], /^page\.md:14: error TS2322: Type '"f64"' is not assignable/);
});

it('implicit any and null are errors: strict', async () => {
  const wrong = await types('```ts', 'export const f = (x) => x;', 'export const n: number = null;', '```');
  assert.deepEqual(
    wrong.map((text) => text.replace(/(TS\d+).*/, '$1')),
    ['page.md:2: error TS7006', 'page.md:3: error TS2322'],
  );
});

it('a block leans on a comment, or on the block before it; lines stay those of the page', async () => {
  const lines = [
    ...[
      '<!-- with:',
      'declare const x: number;',
      'declare const y: string;',
      '-->',
      '```ts',
      'const z = x + 1;',
      '```',
    ],
    ...['', '<!-- continues -->', '```ts', 'export const n: number = z;', 'export const s: number = y;', '```'],
  ];
  assert.deepEqual(await types(...lines), [
    "page.md:12: error TS2322: Type 'string' is not assignable to type 'number'.",
  ]);
  const [program, ...more] = programsOf(page(...lines).blocks);
  assert.deepEqual(more, []);
  assert.deepEqual(program.lines, [6, 6, 6, 11, 12]);
});

it('a file of the workspace finds its neighbours', async () => {
  const lines = (name) => [
    '```ts',
    '// packages/onednn/src/kernels/sample.ts',
    `export { ${name} } from './tools.js';`,
    '```',
  ];
  assert.deepEqual(await types(...lines('optional')), []);
  assert.match((await types(...lines('nothingLikeIt'))).join(), /^page\.md:3: error TS2305/);
});

it('what is exempt has a reason, and no program is left of it', async () => {
  assert.deepEqual(await types('<!-- not compiled: a sketch -->', '```ts', 'const = …', '```'), []);
  assert.match(page('<!-- not compiled: -->', '```ts', '```').problems.join(), /says 'not compiled' and not why/);
  assert.match(page('<!-- without: npm -->', '```sh', 'npm ci', '```').problems.join(), /does not say because of what/);
  assert.match(
    page('<!-- without: node because so -->', '```sh', 'npm ci', '```').problems.join(),
    /no line begins with 'node'/,
  );
});

it('commands without a language, other languages, indented commands, words that mean nothing and lone fences are told', () => {
  const problem = (...lines) => page(...lines).problems.join('\n');
  assert.match(problem('```', 'npx lockstep devices', '```'), /^page\.md:2: commands in a block that is not marked/);
  assert.match(problem('', '    npx lockstep devices'), /^page\.md:2: indented commands/);
  assert.match(problem('```bash', 'ls', '```'), /'bash' is checked by nobody/);
  assert.match(problem('<!-- compiled: no -->', '```ts', '```'), /says 'compiled', which means nothing before ts/);
  assert.match(problem('```ts', 'const x = 1;'), /the last fence is not closed/);
  assert.equal(problem('```', 'a picture', '```', '', 'text', '', '```json', '{}', '```'), '');
});

it('commands are run in a clone: what fails is told with what it printed, what is left out is not run', async () => {
  const { blocks } = page(
    ...['```sh', 'test -f package.json && test -d packages/onednn/dist', 'npx lockstep --version', '```', ''],
    ...['```sh', 'echo said', 'false', 'echo not reached', '```', ''],
    ...['<!-- first: word=there -->', '<!-- shorter: --more -->', '<!-- without: exit because it ends -->', '```sh'],
    ...['node() { echo "$@"; }', 'test "$word" = there', 'exit 3', '```', ''],
    ...['<!-- not run: needs root -->', '```sh', 'exit 4', '```', ''],
    ...['<!-- run by: scripts/check-docs.test.mjs, scripts/nobody.test.mjs -->', '```sh', 'exit 5', '```'],
  );
  const { ran, elsewhere, exempt, partly, problems } = await checkCommands(root, blocks);
  assert.deepEqual([ran, elsewhere.length, exempt.length, partly.length], [3, 1, 1, 1]);
  assert.equal(problems.length, 2, problems.join('\n'));
  assert.match(problems[0], /^page\.md:\d+: run by scripts\/nobody\.test\.mjs, which is not there$/);
  assert.match(problems[1], /^page\.md:7: status 1 after [\d.]+ s\nsaid\n$/);
});

it("flags are the command's own, those of what is launched too", () => {
  const known = new Map(
    Object.entries({ cifar10: ['data_dir'], launch: ['hosts'], 'bench resnet': ['steps'] }).map(([name, flags]) => [
      name,
      new Set(flags),
    ]),
  );
  const unknown = (words) => unknownFlags(words, known);
  assert.deepEqual(unknown('lockstep cifar10 --data_dir=x --hosts=y'), ['lockstep cifar10 has no flag --hosts']);
  assert.deepEqual(unknown('lockstep launch --hosts a:2 -- cifar10 --hosts=y'), [
    'lockstep cifar10 has no flag --hosts',
  ]);
  assert.deepEqual(unknown('lockstep bench resnet --steps=3 # with --more'), []);
  assert.deepEqual(unknown('lockstep something --else'), []);
});
