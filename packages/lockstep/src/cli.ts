/**
 * Finds the command that was typed and runs it. Each command is a module of its own, loaded when it is needed, so that
 * `lockstep --help` takes no longer than Node does.
 */
import { readFileSync } from 'node:fs';
import type { FlagValues } from '@lockstep/official/utils/flags/core';
import { nearestName } from '@lockstep/official/utils/flags/nearest';

/** What a command module exports. */
export interface Command {
  /** @returns exit status */
  main(argv: readonly string[]): Promise<number>;
  /** Its flags, undecided; absent where it has none of its own. */
  defineFlags?(): FlagValues;
}

export interface Entry {
  readonly summary: string;
  readonly load: () => Promise<Command>;
}

/** By name. */
export const COMMANDS: Readonly<Record<string, Entry>> = {
  start: {
    summary: 'Train a small ResNet on 10,000 embedded handwritten digits, on all cores.',
    load: () => import('./commands/start.js'),
  },
  cifar10: {
    summary: 'Train a ResNet on CIFAR-10, with the flags of the Model Garden (cifar10_main).',
    load: () => import('./commands/cifar10.js'),
  },
  imagenet: {
    summary: 'Train a ResNet on ImageNet, or on your own pictures, with the flags of the Model Garden (imagenet_main).',
    load: () => import('./commands/imagenet.js'),
  },
  'keras-cifar10': {
    summary: 'Train the Model Garden’s Keras ResNet on CIFAR-10 with model.fit (keras_cifar_main).',
    load: () => import('./commands/keras-cifar10.js'),
  },
  'keras-imagenet': {
    summary:
      'Train the Model Garden’s Keras ResNet-50 on ImageNet or your own pictures with model.fit (keras_imagenet_main).',
    load: () => import('./commands/keras-imagenet.js'),
  },
  'download-cifar10': {
    summary: 'Fetch CIFAR-10 (162 MB) and unpack it.',
    load: () => import('./commands/download-cifar10.js'),
  },
  'make-imagenet-records': {
    summary: 'Make training data of pictures in folders, one for each class: make-imagenet-records DIR OUT.',
    load: () => import('./commands/make-imagenet-records.js'),
  },
  export: {
    summary: 'Write a trained model for browsers and other programs: export MODEL_DIR OUT.',
    load: () => import('./commands/export.js'),
  },
  serve: {
    summary: 'Open a page in which a trained model classifies pictures, or digits that you draw: serve MODEL_DIR.',
    load: () => import('./commands/serve.js'),
  },
  launch: {
    summary: 'Run a command in many processes, on one machine or more: launch --hosts a:2,b:2 -- cifar10 ….',
    load: () => import('./commands/launch.js'),
  },
  board: {
    summary: 'Show runs in a browser, live ones as they go, others side by side: board MODEL_DIR.',
    load: () => import('./commands/board.js'),
  },
  report: {
    summary: 'Write what the board shows into one HTML file to send to somebody: report MODEL_DIR.',
    load: () => import('./commands/report.js'),
  },
  plan: {
    summary: 'Predict throughput, efficiency, packs and costs on a cluster, before anybody rents one.',
    load: () => import('./commands/plan.js'),
  },
  devices: {
    summary: 'List the devices that replicas can run on.',
    load: () => import('./commands/devices.js'),
  },
  init: {
    summary: 'Write a small project of your own that trains, distributes and saves: init DIR.',
    load: () => import('./commands/init.js'),
  },
  completion: {
    summary: 'Print what a shell needs to complete commands and flags: completion bash|zsh|fish.',
    load: () => import('./commands/completion.js'),
  },
  bench: {
    summary: 'Measure: bench resnet, bench models, bench all_reduce, bench peers.',
    load: () => import('./commands/bench.js'),
  },
};

/** Whether a word is a command of `lockstep`, and not a program. */
export function isCommand(name: string): boolean {
  return Object.hasOwn(COMMANDS, name);
}

const HELP = `Lockstep trains neural networks in TypeScript on many devices at once.

Usage: lockstep <command> [flags]

Commands:
${Object.entries(COMMANDS)
  .map(([name, { summary }]) => `  ${name.padEnd(23)}${summary}`)
  .join('\n')}
  ${'version'.padEnd(23)}Print the version.
  ${'help'.padEnd(23)}Print this text.

Examples:
  lockstep start
  lockstep init my-project
  lockstep download-cifar10 --data_dir=cifar10
  lockstep cifar10 --data_dir=cifar10 --model_dir=model --resnet_size=20 --train_epochs=10
  lockstep cifar10 --use_synthetic_data --max_train_steps=20 --num_cpus=2 --distribution_strategy=mirrored
  lockstep launch --hosts a:2,b:2 --max_restarts=3 -- cifar10 --data_dir=cifar10 --model_dir=model
  lockstep board model
  lockstep bench resnet --resnet_size=20 --batch_size=128

\`lockstep <command> --help\` lists a command's flags, --helpfull all of them.
`;

/** @param argv what was typed after `lockstep` @returns exit status */
export async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    process.stdout.write(HELP);
    return 0;
  }
  if (name === 'version' || name === '--version') {
    process.stdout.write(`lockstep ${version()}\n`);
    return 0;
  }
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!entry) {
    const guess = nearestName(name, Object.keys(COMMANDS));
    process.stderr.write(
      `lockstep: there is no command '${name}'${guess?.likely ? `; did you mean '${guess.name}'?` : '.'}\nhelp: \`lockstep --help\` lists the commands.\n`,
    );
    return 2;
  }
  const command = await entry.load();
  return command.main(rest);
}

function version(): string {
  const file = new URL('../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
