/** `lockstep bench …`: finds the benchmark that was asked for. */
import { nearestName } from '@lockstep/official/utils/flags/nearest';
import { Neighbours } from '../bench/neighbours.js';
import type { Command } from '../cli.js';

/** By name. */
export const BENCHMARKS: Readonly<Record<string, { summary: string; load: () => Promise<Command> }>> = {
  resnet: { summary: 'a training step of the official ResNet', load: () => import('../bench/resnet.js') },
  all_reduce: {
    summary: 'the sum of gradients over replicas or MPI ranks, beside MPI_Allreduce',
    load: () => import('../bench/all-reduce.js'),
  },
  input: {
    summary: "ImageNet's input pipeline, beside sharp's bare decode and resize, and Pillow",
    load: () => import('../bench/input.js'),
  },
  packs: {
    summary: 'a training step for several numbers of packs, in turns',
    load: () => import('../bench/packs.js'),
  },
  layers: {
    summary: 'the same ResNet written in plain tf.layers, beside the official one',
    load: () => import('../bench/layers.js'),
  },
  kernels: {
    summary: "every kernel of the backend beside TensorFlow.js' own, small and large",
    load: () => import('../bench/kernels.js'),
  },
  busy: {
    summary: 'small training steps beside busy programs, with OpenMP as it is and with its waiting bounded',
    load: () => import('../bench/busy.js'),
  },
  start: {
    summary: 'what is not computing: commands, imports, replicas, first steps',
    load: () => import('../bench/start.js'),
  },
  board: { summary: 'opening a run of a million points in the board', load: () => import('../bench/board.js') },
  peers: { summary: 'our training step beside PyTorch, on this machine', load: () => import('../bench/peers.js') },
  models: {
    summary: 'six networks that people train, beside PyTorch and on two replicas',
    load: () => import('../bench/models.js'),
  },
};

const HELP = `Usage: lockstep bench <what> [flags]

${Object.entries(BENCHMARKS)
  .map(([name, { summary }]) => `  ${name.padEnd(12)}${summary}`)
  .join('\n')}

\`lockstep bench <what> --help\` lists the flags.
`;

export async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name.startsWith('--help')) {
    process.stdout.write(HELP);
    return 0;
  }
  const benchmark = Object.hasOwn(BENCHMARKS, name) ? BENCHMARKS[name] : undefined;
  if (!benchmark) {
    const guess = nearestName(name, Object.keys(BENCHMARKS));
    process.stderr.write(
      `lockstep bench: there is no '${name}'${guess?.likely ? `; did you mean '${guess.name}'?` : '.'}\n${HELP}`,
    );
    return 2;
  }
  const neighbours = new Neighbours();
  const status = await (await benchmark.load()).main(rest);
  // It makes neighbours of its own, and says itself who else was there.
  const note = name === 'busy' || rest.some((word) => /^--?help/.test(word)) ? null : neighbours.note;
  if (note !== null) process.stderr.write(`lockstep bench: ${note}\n`);
  return status;
}
