/** The files of a new project, as text. A test writes them, checks their types and runs them. */

/** @param name of the package @returns text by file name */
export function projectFiles(
  name: string,
  { lockstep, tensorflow }: { lockstep: string; tensorflow: string },
): Readonly<Record<string, string>> {
  const manifest = {
    name,
    version: '0.0.1',
    private: true,
    type: 'module',
    scripts: { build: 'tsc', start: 'tsc && node dist/train.js' },
    dependencies: {
      '@lockstep/distribute': lockstep,
      '@lockstep/onednn': lockstep,
      '@tensorflow/tfjs-backend-cpu': tensorflow,
      '@tensorflow/tfjs-core': tensorflow,
      '@tensorflow/tfjs-layers': tensorflow,
    },
    devDependencies: { '@types/node': '^20.19.0', typescript: '^5.9.0' },
  };
  const configuration = {
    compilerOptions: {
      target: 'es2023',
      module: 'nodenext',
      strict: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: true,
      types: ['node'],
      rootDir: '.',
      outDir: 'dist',
    },
    include: ['*.ts'],
  };
  return {
    'package.json': `${JSON.stringify(manifest, null, 2)}\n`,
    'tsconfig.json': `${JSON.stringify(configuration, null, 2)}\n`,
    'train.ts': TRAIN,
    'README.md': readme(name),
    '.gitignore': 'node_modules/\ndist/\nmodel/\n',
  };
}

const TRAIN = `/**
 * Trains a small network to tell two spirals apart, on all cores of this machine, and saves it in model/.
 *
 *   npm start                      one replica per core
 *   npm start -- --replicas=1      without distribution: the same program
 *
 * Your own data and network go in place of spirals() and build(). The lines marked \`Lockstep:\` make it distributed.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isMainThread } from 'node:worker_threads';
import '@lockstep/onednn'; // makes TensorFlow.js fast
import { fitProgress, listDevices, MirroredStrategy, type ReplicaContext } from '@lockstep/distribute'; // Lockstep: 1 of 5
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';

const EPOCHS = 12;
/** Points in a step of all replicas together. */
const BATCH = 64;
const MODEL = \`file://\${fileURLToPath(new URL('../model', import.meta.url))}\`;

/** Points of two spirals, [count, 2], and which one each is of, [count, 1]. The same seed gives the same points. */
function spirals(count: number, seed: number): { x: tf.Tensor2D; y: tf.Tensor2D } {
  const noise = tf.randomNormal([count, 2], 0, 0.03, 'float32', seed).arraySync() as [number, number][];
  const points = noise.map(([dx, dy], i) => {
    const turn = 0.1 + (0.9 * Math.floor(i / 2)) / (count / 2);
    const angle = 2 * Math.PI * turn + (i % 2) * Math.PI;
    return [turn * Math.cos(angle) + dx, turn * Math.sin(angle) + dy];
  });
  return { x: tf.tensor2d(points), y: tf.tensor2d(points.map((_, i) => [i % 2])) };
}

function build(): tfl.LayersModel {
  const { dense } = tfl.layers;
  return tfl.sequential({
    layers: [
      dense({ units: 32, inputShape: [2], activation: 'relu' }),
      dense({ units: 32, activation: 'relu' }),
      dense({ units: 1, activation: 'sigmoid' }),
    ],
  });
}

/** Every replica runs this, in a thread of its own. @returns accuracy on points that were not trained on, 0 to 1 */
export default async function train(context: ReplicaContext): Promise<number> { // Lockstep: 2 of 5
  const data = context.shard(spirals(2000, 1)); // Lockstep: 3 of 5
  const model = build();
  model.compile({
    optimizer: context.optimizer(tf.train.adam(0.01)), // Lockstep: 4 of 5
    loss: 'binaryCrossentropy',
    metrics: ['accuracy'],
  });
  await model.fit(data.x, data.y, {
    epochs: EPOCHS,
    batchSize: Math.ceil(BATCH / context.numReplicasInSync),
    verbose: 0,
    callbacks: fitProgress({ context }),
  });
  // All replicas have the same weights, bit by bit: one saves them.
  if (context.replicaIdInSyncGroup === 0) await model.save(MODEL);
  const test = spirals(500, 2);
  const [, accuracy] = model.evaluate(test.x, test.y) as [tf.Scalar, tf.Scalar];
  return (await accuracy.data())[0] ?? 0;
}

if (isMainThread) {
  const { values } = parseArgs({ options: { replicas: { type: 'string', default: '-1' } } });
  const devices = listDevices({ numCpus: Number(values.replicas) }).map(({ name }) => name);
  const [accuracy] = await new MirroredStrategy({ devices }).run<number>(import.meta.url); // Lockstep: 5 of 5
  console.log(\`accuracy on other points: \${(100 * (accuracy ?? 0)).toFixed(1)} %\`);

  // What was saved, as another program would use it.
  const model = await tfl.loadLayersModel(\`\${MODEL}/model.json\`);
  const { x, y } = spirals(500, 2);
  const answers = (model.predict(x) as tf.Tensor).dataSync();
  const right = y.dataSync().filter((label, i) => label === Math.round(answers[i] ?? 0)).length;
  console.log(\`the model in model/ is right about \${right} of 500\`);
}
`;

function readme(name: string): string {
  return `# ${name}

\`\`\`
npm install
npm start                      # compiles train.ts and trains on all cores
npm start -- --replicas=1      # without distribution, to compare
\`\`\`

\`train.ts\` is the whole program: points of two spirals, a small network that learns to tell them apart, one replica per core,
progress on the screen, and the trained model in \`model/\`, which any TensorFlow.js program loads.

| to | do |
|---|---|
| train on data of your own | put it in place of \`spirals()\`: tensors, arrays, or a data set of batches; \`context.shard\` deals it out |
| train another network | put it in place of \`build()\` |
| use the model | \`tfl.loadLayersModel('file://…/model/model.json')\`, as at the end of \`train.ts\` |
| train on several machines | \`MultiWorkerMirroredStrategy\` in place of \`MirroredStrategy\`, started by \`mpirun\` |

Native code comes from the system: \`apt-get install libdnnl2\` (Debian 13: \`libdnnl3.6\`). Without it replicas compute on
TensorFlow.js' own kernels, which are slow, and say so.
`;
}
