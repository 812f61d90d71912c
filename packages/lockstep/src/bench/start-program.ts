/**
 * What `lockstep bench start` starts in a process of its own, because modules load once: says when what happened, in milliseconds since the
 * process began. Argument: what to do.
 */
import type { ReplicaContext } from '@lockstep/distribute';

/** Since the process began, its own start included. */
const sinceStart = () => performance.now();

const marks: Record<string, number> = {};

/** Entry point of the replica that the `replica` way starts: it is there. */
export default function replica({ replicaIdInSyncGroup }: ReplicaContext): number {
  return replicaIdInSyncGroup;
}

const WAYS: Readonly<Record<string, () => Promise<void>>> = {
  async tfjs() {
    await import('@tensorflow/tfjs-core');
    marks.import = sinceStart();
  },
  async onednn() {
    await import('@lockstep/onednn');
    marks.import = sinceStart();
    const tf = await import('@tensorflow/tfjs-core');
    await tf.ready();
    tf.matMul(tf.ones([64, 64]), tf.ones([64, 64])).dataSync();
    marks['first kernel'] = sinceStart();
  },
  async step() {
    await import('@lockstep/onednn');
    const tf = await import('@tensorflow/tfjs-core');
    const { layersResNet } = await import('./layers-model.js');
    const model = layersResNet(20);
    const [x, y] = [tf.zeros([32, 32, 32, 3]), tf.zeros([32])];
    marks['model made'] = sinceStart();
    for (const name of ['first step', 'second step', 'third step']) {
      await model.trainOnBatch(x, y);
      marks[name] = sinceStart();
    }
  },
  async replica() {
    await import('@lockstep/onednn');
    const { MirroredStrategy } = await import('@lockstep/distribute');
    marks.import = sinceStart();
    const strategy = new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'], log: () => {} });
    await strategy.run(new URL(import.meta.url), {});
    marks['two replicas began and ended'] = sinceStart();
  },
};

const way = process.argv[2] === undefined ? undefined : WAYS[process.argv[2]];
// A replica's thread loads this module as well, and has nothing to say.
if (way && (await import('node:worker_threads')).isMainThread) {
  await way();
  process.stdout.write(`${JSON.stringify(marks)}\n`);
}
