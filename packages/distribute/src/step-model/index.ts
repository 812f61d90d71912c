/** @lockstep/distribute/step-model: how long a step takes on a cluster, reckoned. It loads no TensorFlow.js. */
export { ALGORITHMS, type Algorithm, allReduceMs, fitNetwork, type Network } from './collectives.js';
export { choosePacks, NUM_PACKS, type PackCut, type PackOption } from './packs.js';
export { type Cluster, type SimulatedStep, type StepProfile, simulateStep } from './simulate.js';
