/**
 * What `lockstep bench busy` starts in a process of its own, because a process's OpenMP decides once how long its threads wait: trains
 * one small network and prints the median time of a step, in milliseconds. Arguments: network, steps.
 */
import '@lockstep/onednn';
import * as tf from '@tensorflow/tfjs-core';
import { layersResNet } from './layers-model.js';
import { mlp } from './networks.js';
import { summarize } from './statistics.js';
import { transformer } from './transformer.js';

const WARMUP = 6;

const itself = (optimizer: tf.Optimizer) => optimizer;

function resnet(): { step(): Promise<unknown> } {
  const model = layersResNet(20);
  const [x, y] = [tf.randomUniform([64, 32, 32, 3], -1, 1, 'float32', 1), tf.zeros([64])];
  return { step: () => model.trainOnBatch(x, y) };
}

const SMALL = {
  vocabulary: 32,
  length: 16,
  width: 32,
  heads: 2,
  inner: 128,
  blocks: 1,
  batch: 16,
  causal: true,
} as const;

const NETWORKS: Readonly<Record<string, () => { step(): Promise<unknown> }>> = {
  transformer: () => transformer(itself, SMALL),
  mlp: () => mlp(itself, [128, 64], 32),
  resnet,
};

await tf.ready();
const [, , name = '', steps = '30'] = process.argv;
const network = (NETWORKS[name] as () => { step(): Promise<unknown> })();
const times: number[] = [];
for (let i = 0; i < WARMUP + Number(steps); i++) {
  const begin = performance.now();
  await network.step();
  if (i >= WARMUP) times.push(performance.now() - begin);
}
process.stdout.write(`${summarize(times).median}\n`);
