/** Parameter servers. */
export { ParameterServerStrategy, type ParameterServerStrategyOptions } from './parameter-server-strategy.js';
export { ParameterServerTrainer } from './parameter-server-trainer.js';
export { placeVariables } from './placement.js';
export type { Staleness } from './protocol.js';
export type { ServerReport } from './server.js';
export type { ServerStatus } from './server-links.js';
