/**
 * `lockstep start`: the main job without any data to fetch. A small ResNet learns 10,000 embedded handwritten digits, one
 * replica per core, and says how well it did and what to try next. It is `lockstep cifar10` with other defaults, which it
 * prints; every flag of that command can be given. A second one goes on with what the first one left, or skips what is done.
 */
import { basename, dirname, join, resolve } from 'node:path';
import { physicalCores, shellQuote } from '@lockstep/distribute';
import { fitText } from '@lockstep/distribute/progress';
import { DIGITS_TRAIN, DIGITS_VALIDATION, prepareDigits } from '@lockstep/official/data/digits';
import { main as cifar10 } from '@lockstep/official/resnet/cifar10-main';
import { CIFAR10_RECIPE } from '@lockstep/official/resnet/lr-schedule';
import { defineCifarFlags } from '@lockstep/official/resnet/resnet-flags';
import type { ResnetMainResult } from '@lockstep/official/resnet/resnet-run-loop';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { registerBackend, reportErrors } from '../backend.js';
import { boardBeside } from '../board/beside.js';
import { type FoundModel, findModel } from './found-model.js';
import { fittedDecay, scaledBoundaries, spanOf } from './short-run.js';

const FOLDER = 'lockstep-data';
const DIGITS = join(FOLDER, 'digits');
const TRAIN_EPOCHS = 12;
const BATCH_SIZE = 64;
const MAX_REPLICAS = 4;

export function main(argv: readonly string[]): Promise<number> {
  return reportErrors(async () => {
    const { flags, usesDigits, fits } = startFlags(argv, physicalCores().length);
    const command = [...flags, ...argv];
    let begin = 0;
    let found: FoundModel | null = null;
    return cifar10(command, {
      brief: true,
      board: boardBeside,
      prepare: async (parsed) => {
        await registerBackend(parsed);
        found = findModel(parsed);
        if (usesDigits) {
          prepareDigits(DIGITS);
          const number = (count: number) => count.toLocaleString('en-US');
          say(
            `A ResNet learns to read: ${number(DIGITS_TRAIN)} handwritten digits to train on, ${number(DIGITS_VALIDATION)} held out, in ${DIGITS}.`,
          );
        }
        // A shell takes it as it stands there.
        say(`The same as: lockstep cifar10 ${shellQuote(command)}`, ' \\');
        if (found) say(found.line);
        else if (fits) say(describeFit(parsed));
        say('');
        begin = performance.now();
      },
      onResult: (result) => summarize(result, usesDigits, found?.isOver ?? false, (performance.now() - begin) / 1000),
    });
  });
}

export function defineFlags(): FlagValues {
  return defineCifarFlags(new FlagValues());
}

/** A line on standard error, broken between words where the terminal is narrower. @param mark at the end of each that goes on */
function say(line: string, mark?: string): void {
  process.stderr.write(`${fitText(line, process.stderr, mark)}\n`);
}

/** Which constants of the recipe are others than the official ones, and why. */
function describeFit({ FLAGS }: FlagValues): string {
  const { train_epochs: epochs, lr_boundary_epochs: boundaries, batch_norm_decay: decay } = FLAGS;
  const span = spanOf(decay);
  return (
    `Fitted to ${epochs === 1 ? '1 epoch' : `${epochs} epochs`}: the learning rate falls at epochs ${(boundaries ?? []).join(' and ')}, and evaluation ` +
    `averages batch norm over about ${span === 1 ? 'the last step' : `${span} steps`} (--batch_norm_decay=${decay}; officially 333 steps of 71,000).`
  );
}

/**
 * The flags that `start` puts before those that were typed.
 * @returns `fits`: whether the recipe's constants among them are fitted to the length of the run; false where all were typed.
 */
export function startFlags(
  argv: readonly string[],
  cores: number,
): { flags: string[]; isHelp: boolean; usesDigits: boolean; fits: boolean } {
  const typed = defineFlags();
  typed.setDefaults({ train_epochs: TRAIN_EPOCHS, batch_size: BATCH_SIZE });
  let isHelp = false;
  try {
    isHelp = typed.parse(argv).help !== null;
    // After help there are no values.
    if (isHelp) typed.parse([]);
  } catch {
    // The command itself will say what is wrong.
    typed.parse([]);
  }
  const isGiven = (name: string) => !isHelp && typed.isGiven(name);
  // A power of two divides the batch; 16 images are enough for each replica's batch norm. More cores make more threads.
  const replicas = 2 ** Math.floor(Math.log2(Math.min(cores, MAX_REPLICAS)));
  const usesGpus = !isHelp && typed.FLAGS.num_gpus !== 0;
  const usesDigits = !isGiven('data_dir') && !isGiven('use_synthetic_data');
  const { train_epochs: epochs, batch_size: batchSize, max_train_steps: maxSteps, data_dir: dataDir } = typed.FLAGS;
  const images = usesDigits ? DIGITS_TRAIN : CIFAR10_RECIPE.numImages;
  const steps = Math.min(maxSteps ?? Number.POSITIVE_INFINITY, Math.ceil((epochs * images) / batchSize));
  // Of other images another model: the one that reads digits stays.
  const model = usesDigits ? 'digits' : isGiven('data_dir') ? basename(resolve(dataDir)) : 'synthetic';
  const defaults: Record<string, string> = {
    data_dir: DIGITS,
    model_dir: join(FOLDER, `${model}-model`),
    resnet_size: '8',
    train_epochs: String(TRAIN_EPOCHS),
    epochs_between_evals: '4',
    batch_size: String(BATCH_SIZE),
    lr_boundary_epochs: scaledBoundaries(epochs).join(','),
    batch_norm_decay: String(fittedDecay(steps)),
    random_flip: 'false',
    // With GPUs there is a replica on each, and the strategy is that of their number.
    ...(usesGpus ? {} : { num_cpus: String(replicas), distribution_strategy: replicas > 1 ? 'mirrored' : 'off' }),
    seed: '1',
    hooks: '',
  };
  return {
    flags: Object.entries(defaults)
      .filter(([name]) => !isGiven(name))
      .map(([name, value]) => `--${name}=${value}`),
    isHelp,
    usesDigits,
    fits: !isGiven('lr_boundary_epochs') || !isGiven('batch_norm_decay'),
  };
}

function summarize(
  { evaluation, checkpoint, replicas, interrupted }: ResnetMainResult,
  usesDigits: boolean,
  wasOver: boolean,
  seconds: number,
): void {
  const lines = [''];
  // As it was typed.
  const start = process.env.npm_lifecycle_event === 'start' ? 'npm start --' : 'npx lockstep start';
  if (evaluation) {
    const what = usesDigits ? 'digits' : 'images';
    const trained = `after ${seconds.toFixed(0)} s on ${replicas} replica${replicas === 1 ? '' : 's'}`;
    lines.push(
      `Accuracy on the held-out ${what}: ${(100 * evaluation.accuracy).toFixed(1)} %${wasOver ? '; nothing was trained' : ` ${trained}`}.`,
    );
  }
  if (checkpoint) lines.push(`Checkpoint: ${checkpoint}`);
  if (interrupted) lines.push('Interrupted: the same command goes on from there.');
  lines.push(
    '',
    'What to try next:',
    `  ${start} --train_epochs=24`,
    '      twice as many epochs: goes on from here',
    `  ${start} --resnet_size=14 --resnet_version=2 --model_dir=deeper`,
    '      a deeper network, pre-activated',
    `  ${start} --num_cpus=1 --distribution_strategy=off --model_dir=alone`,
    '      one replica on all cores, to compare',
    `  ${start} --board`,
    '      the same in a browser, as it goes',
    '  npx lockstep download-cifar10 --data_dir=cifar10',
    `  ${start} --data_dir=cifar10 --resnet_size=20 --random_flip`,
    '      the real thing: fetch CIFAR-10 and train on it',
    '',
    ...(checkpoint
      ? [
          usesDigits ? 'Draw a digit, and have it read in your browser:' : 'Try it in your browser:',
          `  npx lockstep serve ${shellQuote([dirname(checkpoint)])}`,
          '',
        ]
      : []),
  );
  process.stdout.write(`${fitText(lines.join('\n'), process.stdout)}\n`);
}
