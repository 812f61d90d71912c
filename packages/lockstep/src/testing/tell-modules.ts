/** For tests: `node --import` of this file tells on standard error which modules are loaded, a line `loads URL` each. */
import { register } from 'node:module';

const HOOKS = `
import { writeSync } from 'node:fs';
export async function load(url, context, next) {
  writeSync(2, 'loads ' + url + '\\n');
  return await next(url, context);
}
`;
register(`data:text/javascript,${encodeURIComponent(HOOKS)}`);
