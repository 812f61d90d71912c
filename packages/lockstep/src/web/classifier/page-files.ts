/** The files of the page that uses an exported model, as the build made them: they lie beside its model.json, wherever that is served. */
import { readFileSync } from 'node:fs';
import type { ExportFile } from '@lockstep/official/utils/export/export';

const FOLDER = new URL('./page/', import.meta.url);
const NAMES = ['index.html', 'page.css', 'page.js'] as const;

export function pageFiles(): ExportFile[] {
  return NAMES.map((name) => ({ name, pieces: [readFileSync(new URL(name, FOLDER))] }));
}
