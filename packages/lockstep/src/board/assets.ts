/** The page's files as the build made them (scripts/build-page.mjs), read once: the server has no folder that it serves. */
import { readFileSync } from 'node:fs';

export interface Asset {
  readonly type: string;
  readonly bytes: Buffer;
}

const FILES = {
  '/': ['index.html', 'text/html'],
  '/page.js': ['page.js', 'text/javascript'],
  '/page.css': ['page.css', 'text/css'],
} as const;

/** By the path in the address. */
export function pageAssets(): ReadonlyMap<string, Asset> {
  return new Map(Object.entries(FILES).map(([path, [name, type]]) => [path, { type, bytes: pageFile(name) }]));
}

/** @param name in the page's folder */
export function pageFile(name: string): Buffer {
  return readFileSync(new URL(`./page/${name}`, import.meta.url));
}
