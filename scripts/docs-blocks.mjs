// The blocks of code in a page of documentation, and what a comment right before one says about it. A page shows programs as they are
// written; what they lean on is in comments that a reader of the page does not see:
//
//   <!-- with: import * as tf from '@tensorflow/tfjs'; declare const model: tf.LayersModel; -->    lines of TypeScript before the block's own
//   <!-- continues -->                     the block goes on where the page's last one ended: one program
//   <!-- not compiled: reason -->          the block is no program, on purpose
//   <!-- first: echo 'export {};' > train.ts -->     lines of shell before the block's own
//   <!-- shorter: --train_epochs=1 -->     flags behind every command of the block that takes time
//   <!-- without: npx lockstep download because it needs a network -->      lines that begin like this are left out, and counted
//   <!-- run by: path/of.test.ts -->       a test runs these commands
//   <!-- not run: reason -->               they need root, other machines, a network, or hours
//
// A block of TypeScript whose first line is `// name.ts` is that file. check-docs.mjs compiles and runs them; packed.test.mjs compiles the
// same programs against the archives.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const FENCE =
  /(?<notes>(?:^<!--(?:(?!-->)[\s\S])*-->[ \t]*\n\s*)*)^```(?<language>[^\n]*)\n(?<code>(?:(?!^```)[^\n]*\n)*)^```[ \t]*$/gm;
const KEYS = { ts: ['with', 'continues', 'not compiled'], sh: ['first', 'shorter', 'without', 'run by', 'not run'] };
/** Languages in which nothing runs. A block without one is a picture, or what a command prints. */
const DATA = ['', 'json', 'yaml', 'diff'];
/** A block that says nothing of its language, but is to be typed. */
const COMMAND = /^\s*(\w+=\S+ )*(npm|npx|node|lockstep|mpirun|srun|sbatch|git|apt-get|python3?|bun|deno|mkdir|cd) /;

/**
 * @param file of the page, for messages
 * @returns `blocks` ({ file, line of its first line of code, language, code, notes by key }), and `problems` as text.
 */
export function blocksOf(file, markdown) {
  const blocks = [];
  const problems = [];
  let until = 0;
  for (const match of markdown.matchAll(FENCE)) {
    const { notes, language, code } = match.groups;
    const start = match.index + notes.length;
    const line = markdown.slice(0, start).split('\n').length + 1;
    const block = { file, line, language: language.trim(), code, notes: notesOf(notes) };
    blocks.push(block);
    problems.push(...problemsOf(block).map((text) => `${file}:${line}: ${text}`));
    // A fence between two blocks that no block begins or ends with: everything behind it would be read inside out.
    if (/^```/m.test(markdown.slice(until, start)))
      problems.push(`${file}:${line}: a fence before this block stands alone`);
    until = match.index + match[0].length;
  }
  if (/^\s*```/m.test(markdown.slice(until))) problems.push(`${file}: the last fence is not closed, or indented`);
  const prose = markdown.replaceAll(FENCE, (text) => text.replaceAll(/[^\n]/g, ''));
  for (const [i, text] of prose.split('\n').entries()) {
    if (/^ {4}/.test(text) && COMMAND.test(text))
      problems.push(`${file}:${i + 1}: indented commands. help: a \`\`\`sh block`);
  }
  return { blocks, problems };
}

function notesOf(text) {
  const notes = {};
  for (const [, content] of text.matchAll(/<!--([\s\S]*?)-->/g)) {
    const [, key, value] = /^\s*([a-z ]+?)\s*(?::([\s\S]*))?$/.exec(content) ?? [null, content.trim(), ''];
    notes[key] = (value ?? '').replace(/^ +(?=\S)/, '').trimEnd();
  }
  return notes;
}

function problemsOf({ language, code, notes }) {
  if (DATA.includes(language)) {
    const typed = code.split('\n').find((line) => line.trim() !== '') ?? '';
    return language === '' && COMMAND.test(typed)
      ? [`commands in a block that is not marked as \`\`\`sh: ${typed.trim()}`]
      : [];
  }
  const known = KEYS[language];
  if (known === undefined) return [`'${language}' is checked by nobody. help: use ts or sh`];
  const unknown = Object.keys(notes).filter((key) => !known.includes(key));
  const reasonless = linesOf(notes.without).filter((text) => !/^\S.* because \S/.test(text));
  const empty = Object.keys(notes).filter((key) => key !== 'continues' && notes[key].trim() === '');
  return [
    ...unknown.map(
      (key) => `a comment says '${key}', which means nothing before ${language}. help: ${known.join(', ')}`,
    ),
    ...reasonless.map((text) => `'without: ${text}' does not say because of what`),
    ...withoutOf(notes)
      .filter(({ begin }) => !code.split('\n').some((line) => line.startsWith(begin)))
      .map(({ begin }) => `no line begins with '${begin}', which a comment leaves out`),
    ...empty.map((key) => `a comment says '${key}' and not why or what`),
  ];
}

const linesOf = (text = '') =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);

/** What is left out of a block of commands. @returns [{ begin, reason }] */
export function withoutOf(notes) {
  return linesOf(notes.without).map((text) => {
    const at = text.indexOf(' because ');
    return { begin: text.slice(0, at), reason: text.slice(at + 1) };
  });
}

/**
 * Programs that the blocks of one page are: each with the blocks that continue it.
 * @returns [{ file, line, name, code, lines }], where `lines[i]` is the page's line of the program's line i + 1; `name` is its file's.
 */
export function programsOf(blocks) {
  const programs = [];
  for (const { file, line, language, code, notes } of blocks) {
    if (language !== 'ts' || notes['not compiled'] !== undefined) continue;
    const before = notes.with === undefined ? '' : `${notes.with.replace(/^\n/, '')}\n`;
    const text = before + code;
    const numbers = [
      ...before
        .split('\n')
        .slice(0, -1)
        .map(() => line),
      ...code
        .split('\n')
        .slice(0, -1)
        .map((_, i) => line + i),
    ];
    if (notes.continues !== undefined) {
      const last = programs.at(-1);
      if (last === undefined) throw new Error(`${file}:${line}: nothing is there to be continued`);
      last.code += text;
      last.lines.push(...numbers);
      continue;
    }
    const name = /^\/\/ ([\w./-]+\.ts)\b/.exec(text)?.[1] ?? 'sample.ts';
    programs.push({ file, line, name, code: text, lines: numbers });
  }
  return programs;
}

/** Writes programs of a page into `folder`, each into a folder of its own. @returns their paths, in the same order. */
export function writePrograms(folder, programs) {
  return programs.map(({ line, name, code }) => {
    const path = join(folder, `line-${line}`, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, code);
    return path;
  });
}

/** Paths of the pages that are checked, from the repository's root. */
export function pagesOf(root) {
  const markdown = (folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.md'))
      .map((name) => join(folder, name));
  return [
    'README.md',
    'CONTRIBUTING.md',
    ...markdown('docs'),
    ...readdirSync(join(root, 'packages')).map((name) => join('packages', name, 'README.md')),
    join('examples', 'README.md'),
  ];
}

/** All pages' blocks. */
export function readPages(root) {
  return pagesOf(root).map((file) => ({ file, ...blocksOf(file, readFileSync(join(root, file), 'utf8')) }));
}
