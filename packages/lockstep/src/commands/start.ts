/**
 * `lockstep start`: the main job without any data to fetch. A small ResNet learns 10,000 embedded handwritten digits with the
 * official recipe, one replica per core, and says how well it did and what to try next. Every flag of `lockstep cifar10` can
 * be given.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { physicalCores } from '@lockstep/distribute';
import { prepareDigits } from '@lockstep/official/data/digits';
import { main as cifar10 } from '@lockstep/official/resnet/cifar10-main';
import type { ResnetMainResult } from '@lockstep/official/resnet/resnet-run-loop';
import { registerBackend, reportErrors } from '../backend.js';

const FOLDER = 'lockstep-data';

export function main(argv: readonly string[]): Promise<number> {
  return reportErrors(async () => {
    await registerBackend(argv);
    const dataDir = prepareDigits(join(FOLDER, 'digits'));
    const modelDir = join(FOLDER, 'digits-model');
    const given = (name: string) => argv.some((word) => new RegExp(`^--?(no)?${name}(=|$)`).test(word));
    const cores = physicalCores().length;
    const defaults: Record<string, string> = {
      data_dir: dataDir,
      model_dir: modelDir,
      resnet_size: '8',
      train_epochs: '12',
      epochs_between_evals: '4',
      batch_size: '64',
      num_cpus: String(cores),
      distribution_strategy: cores > 1 ? 'mirrored' : 'off',
      seed: '1',
      hooks: '',
    };
    // A second `npm start` trains again instead of finding the work done.
    const isOwnModel = !given('model_dir') && !given('md') && !given('resume') && !given('eval_only');
    if (isOwnModel) rmSync(modelDir, { recursive: true, force: true });
    const flags = Object.entries(defaults)
      .filter(([name]) => !given(name))
      .map(([name, value]) => `--${name}=${value}`);
    const begin = performance.now();
    if (!argv.some((word) => word.startsWith('--help'))) {
      process.stderr.write(
        `Training on ${dataDir}: 9,000 handwritten digits, 1,000 held out.\n` +
          `lockstep cifar10 ${[...flags, ...argv].join(' ')}\n`,
      );
    }
    return cifar10([...flags, ...argv], {
      onResult: (result) => summarize(result, (performance.now() - begin) / 1000),
    });
  });
}

function summarize({ evaluation, checkpoint, replicas, interrupted }: ResnetMainResult, seconds: number): void {
  const lines = [''];
  if (evaluation) {
    lines.push(
      `Accuracy on the 1,000 held-out digits: ${(100 * evaluation.accuracy).toFixed(1)} % after ${seconds.toFixed(0)} s on ${replicas} replica${replicas === 1 ? '' : 's'}.`,
    );
  }
  if (checkpoint) lines.push(`Checkpoint: ${checkpoint}`);
  if (interrupted) lines.push('Interrupted: the same command with --resume goes on from there.');
  lines.push(
    '',
    'What to try next:',
    '  npm start -- --resnet_size=14 --resnet_version=2     a deeper network, pre-activated',
    '  npm start -- --num_cpus=1 --distribution_strategy=off  one device, to compare',
    '  npx lockstep download-cifar10 --data_dir=cifar10      the real thing',
    '  npx lockstep cifar10 --data_dir=cifar10 --model_dir=model --resnet_size=20 --num_cpus=-1 --distribution_strategy=mirrored',
    '',
  );
  process.stdout.write(`${lines.join('\n')}\n`);
}
