/** Parameter servers. */
export { ParameterServerStrategy, type ParameterServerStrategyOptions } from './parameter-server-strategy.js';
export { placeVariables } from './placement.js';
export type { Staleness } from './protocol.js';
export type { ServerReport } from './server.js';
