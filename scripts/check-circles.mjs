// No circle of imports: neither between the files of a package nor between its folders. A reader, and a change, then has one
// direction. Imports of types count: they are as hard to read in a circle. Tests and what only they use may import anything.
//
//   node scripts/check-circles.mjs          exit status 1, and every circle, if there are any
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const ONLY_TESTS = /\.test\.ts$|(^|\/)testing[-/]|(^|\/)testing\.ts$|\.cases\.ts$|-cases\.ts$|\.scenes\.ts$/;

function sources(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return entry.name.endsWith('.ts') ? [path] : [];
  });
}

/** Relative imports of a file, as paths of sources. */
export function importsOf(path, text) {
  const found = [];
  for (const [, specifier] of text.matchAll(
    /(?:^|\n)\s*(?:import|export)\b[^'"`;]*?from\s*'(\.[^']+)'|(?:^|\n)\s*import\s*'(\.[^']+)'/g,
  )) {
    if (specifier) found.push(specifier);
  }
  return found.map((specifier) => resolve(dirname(path), specifier).replace(/\.js$/, '.ts'));
}

/** Strongly connected components with more than one node, or a node that reaches itself: Tarjan (1972). */
export function circlesOf(graph) {
  const index = new Map();
  const low = new Map();
  const stack = [];
  const onStack = new Set();
  const circles = [];
  const visit = (node) => {
    index.set(node, index.size);
    low.set(node, index.get(node));
    stack.push(node);
    onStack.add(node);
    for (const next of graph.get(node) ?? []) {
      if (!index.has(next)) {
        visit(next);
        low.set(node, Math.min(low.get(node), low.get(next)));
      } else if (onStack.has(next)) low.set(node, Math.min(low.get(node), index.get(next)));
    }
    if (low.get(node) !== index.get(node)) return;
    const circle = [];
    let member;
    do {
      member = stack.pop();
      onStack.delete(member);
      circle.push(member);
    } while (member !== node);
    if (circle.length > 1 || graph.get(node)?.has(node)) circles.push(circle.reverse());
  };
  for (const node of graph.keys()) if (!index.has(node)) visit(node);
  return circles;
}

const isWithin = (inner, outer) => inner.startsWith(`${outer}/`);

/**
 * Circles of one package: of its files, and of its folders. A file at the root belongs to no folder: it stands for itself. A folder and
 * those within it are one house; between them only files count.
 */
export function circlesOfPackage(folder) {
  const files = sources(folder).filter((path) => !ONLY_TESTS.test(relative(folder, path)));
  const known = new Set(files);
  const byFile = new Map(files.map((path) => [path, new Set()]));
  const roomOf = (path) => (dirname(path) === folder ? path : dirname(path));
  const byFolder = new Map(files.map((path) => [roomOf(path), new Set()]));
  for (const path of files) {
    for (const target of importsOf(path, readFileSync(path, 'utf8'))) {
      if (!known.has(target)) continue;
      byFile.get(path).add(target);
      const [from, to] = [roomOf(path), roomOf(target)];
      if (from !== to && !isWithin(from, to) && !isWithin(to, from)) byFolder.get(from).add(to);
    }
  }
  return { files: circlesOf(byFile), folders: circlesOf(byFolder) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  let problems = 0;
  for (const name of readdirSync(join(root, 'packages'))) {
    const folder = join(root, 'packages', name, 'src');
    const { files, folders } = circlesOfPackage(folder);
    for (const [kind, circles] of [
      ['files', files],
      ['folders', folders],
    ]) {
      for (const circle of circles) {
        problems++;
        console.log(
          `${name}: a circle of ${circle.length} ${kind}: ${circle.map((path) => relative(folder, path) || '.').join(' → ')}`,
        );
      }
    }
  }
  console.log(problems === 0 ? 'no circles of imports' : `${problems} circles of imports`);
  process.exitCode = problems === 0 ? 0 : 1;
}
