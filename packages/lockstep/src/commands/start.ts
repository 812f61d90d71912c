/**
 * `lockstep start`: the main job without any data to fetch. A small ResNet learns 10,000 embedded handwritten digits, one
 * replica per core, and says how well it did and what to try next. It is `lockstep cifar10` with other defaults, which it
 * prints; every flag of that command can be given.
 */
import { join } from 'node:path';
import { physicalCores } from '@lockstep/distribute';
import { DIGITS_TRAIN, DIGITS_VALIDATION, prepareDigits } from '@lockstep/official/data/digits';
import { main as cifar10 } from '@lockstep/official/resnet/cifar10-main';
import { CIFAR10_RECIPE } from '@lockstep/official/resnet/lr-schedule';
import { defineCifarFlags } from '@lockstep/official/resnet/resnet-flags';
import type { ResnetMainResult } from '@lockstep/official/resnet/resnet-run-loop';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { registerBackend, reportErrors } from '../backend.js';

const FOLDER = 'lockstep-data';
const DIGITS = join(FOLDER, 'digits');
const MODEL = join(FOLDER, 'digits-model');
const TRAIN_EPOCHS = 12;
const MAX_REPLICAS = 4;

export function main(argv: readonly string[]): Promise<number> {
  return reportErrors(async () => {
    const { flags, usesDigits } = startFlags(argv, physicalCores().length);
    const command = [...flags, ...argv];
    let begin = 0;
    return cifar10(command, {
      brief: true,
      prepare: async (parsed) => {
        await registerBackend(parsed);
        if (usesDigits) {
          prepareDigits(DIGITS);
          const number = (count: number) => count.toLocaleString('en-US');
          process.stderr.write(
            `A ResNet learns to read: ${number(DIGITS_TRAIN)} handwritten digits to train on, ${number(DIGITS_VALIDATION)} held out, in ${DIGITS}.\n`,
          );
        }
        process.stderr.write(`The same as: lockstep cifar10 ${command.join(' ')}\n\n`);
        begin = performance.now();
      },
      onResult: (result) => summarize(result, usesDigits, (performance.now() - begin) / 1000),
    });
  });
}

/**
 * The flags that `start` puts before those that were typed.
 * @returns `trainsAnew`: a second `npm start` trains again (--clean) instead of finding the work done.
 */
export function startFlags(
  argv: readonly string[],
  cores: number,
): { flags: string[]; isHelp: boolean; usesDigits: boolean; trainsAnew: boolean } {
  const typed = defineCifarFlags(new FlagValues());
  typed.setDefaults({ train_epochs: TRAIN_EPOCHS });
  let isHelp = false;
  try {
    isHelp = typed.parse(argv).help !== null;
  } catch {
    // The command itself will say what is wrong.
    typed.parse([]);
  }
  const isGiven = (name: string) => !isHelp && typed.isGiven(name);
  // A power of two divides the batch; 16 images are enough for each replica's batch norm. More cores make more threads.
  const replicas = 2 ** Math.floor(Math.log2(Math.min(cores, MAX_REPLICAS)));
  const trainsAnew = !['model_dir', 'resume', 'eval_only', 'clean'].some(isGiven);
  const defaults: Record<string, string> = {
    data_dir: DIGITS,
    model_dir: MODEL,
    resnet_size: '8',
    train_epochs: String(TRAIN_EPOCHS),
    epochs_between_evals: '4',
    batch_size: '64',
    lr_boundary_epochs: scaledBoundaries(isHelp ? TRAIN_EPOCHS : typed.get('train_epochs')).join(','),
    random_flip: 'false',
    num_cpus: String(replicas),
    distribution_strategy: replicas > 1 ? 'mirrored' : 'off',
    seed: '1',
    hooks: '',
    ...(trainsAnew && { clean: 'true' }),
  };
  return {
    flags: Object.entries(defaults)
      .filter(([name]) => !isGiven(name))
      .map(([name, value]) => `--${name}=${value}`),
    isHelp,
    usesDigits: !isGiven('data_dir') && !isGiven('use_synthetic_data'),
    trainsAnew,
  };
}

/**
 * The official boundaries, at 91 and 136 of 182 epochs, at the same parts of another number of epochs. At a constant rate
 * batch norm's moving averages (the last 333 steps or so) trail the weights, and evaluation with them.
 */
export function scaledBoundaries(trainEpochs: number): number[] {
  const { boundaryEpochs } = CIFAR10_RECIPE;
  const official = boundaryEpochs.at(-1) as number;
  return boundaryEpochs.slice(0, -1).map((epoch) => Math.round((10 * trainEpochs * epoch) / official) / 10);
}

function summarize(
  { evaluation, checkpoint, replicas, interrupted }: ResnetMainResult,
  usesDigits: boolean,
  seconds: number,
): void {
  const lines = [''];
  if (evaluation) {
    lines.push(
      `Accuracy on the held-out ${usesDigits ? 'digits' : 'images'}: ${(100 * evaluation.accuracy).toFixed(1)} % after ${seconds.toFixed(0)} s on ${replicas} replica${replicas === 1 ? '' : 's'}.`,
    );
  }
  if (checkpoint) lines.push(`Checkpoint: ${checkpoint}`);
  if (interrupted) lines.push('Interrupted: `npm start -- --resume` goes on from there.');
  lines.push(
    '',
    'What to try next:',
    '  npm start -- --resnet_size=14 --resnet_version=2        a deeper network, pre-activated',
    '  npm start -- --num_cpus=1 --distribution_strategy=off   one replica on all cores, to compare',
    '  npx lockstep download-cifar10 --data_dir=cifar10        the real thing: fetch CIFAR-10, then',
    '  npx lockstep cifar10 --data_dir=cifar10 --model_dir=model --resnet_size=20 --train_epochs=10 --num_cpus=-1 --distribution_strategy=mirrored',
    '',
  );
  process.stdout.write(`${lines.join('\n')}\n`);
}
