/** The command line as a function, for programs that want to call it. */
export { type Command, main } from './cli.js';
