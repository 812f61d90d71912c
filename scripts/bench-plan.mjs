// `lockstep plan` held against measurements: on two hosts joined by links of several rates (network namespaces on this machine, one process
// of one thread in each), it predicts the step from a timeline of one worker and from α and β of `bench all_reduce --fit`, for several
// numbers of packs, gradients in f32 and bf16; then the same steps are measured. Needs Open MPI, and for hosts root and iproute2; the rate
// `local` is two processes of this machine without a link.
//
//   node scripts/bench-plan.mjs [--rates=1gbit,100mbit] [--packs=1,2,4,8] [--steps=20] [--rounds=2] [--dataset=cifar10] [--resnet_size=20]
//     [--batch_size=128] [--fit_bytes=4194304] [--limit_secs=900]
//
// The timeline is made while both hosts compute, because here they share a machine's memory. `auto` is what a run with --num_packs=auto
// chose; beside it stands the best that was measured.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { summarize } from '../packages/lockstep/dist/bench/statistics.js';
import { oneMachine, withTwoHosts } from './two-hosts.mjs';

const flags = {
  ...{ rates: '1gbit,100mbit', packs: '1,2,4,8', steps: '20', rounds: '2', limit_secs: '900', fit_bytes: '4194304' },
  ...{ dataset: 'cifar10', resnet_size: '20', batch_size: '128' },
};
for (const word of process.argv.slice(2)) {
  const [, name, value] = /^--([a-z_]+)=(.+)$/.exec(word) ?? [];
  if (name === undefined || !(name in flags)) {
    console.error(`'${word}' is no flag of this script; see its head.`);
    process.exit(2);
  }
  flags[name] = value;
}
const limit = Number(flags.limit_secs);
const packs = flags.packs.split(',').map(Number);
const network = [`--resnet_size=${flags.resnet_size}`, `--batch_size=${flags.batch_size}`];
const THREAD = '--intra_op_parallelism_threads=1';
/** Steps that the timeline has, and those that every measurement leaves out. */
const [FIRST, LAST, WARM_UP] = [9, 28, 14];

const folder = mkdtempSync(join(tmpdir(), 'lockstep-bench-plan-'));
const errors = [];

/** Of host a, while host b does the same. */
async function makeTimeline(hosts) {
  const train = (side) =>
    hosts.alone(
      side,
      [
        ...[
          flags.dataset,
          '--use_synthetic_data',
          ...network,
          THREAD,
          `--model_dir=${join(folder, side)}`,
          '--distribution_strategy=off',
        ],
        ...['--train_epochs=1', `--max_train_steps=${LAST + 1}`, `--profile_steps=${FIRST},${LAST}`, '--hooks='],
        ...['--progress=none', '--save_summary_steps=0', '--clean'],
      ],
      limit,
    );
  await Promise.all(['a', 'b'].map(train));
  return join(
    folder,
    'a',
    readdirSync(join(folder, 'a')).find((name) => name.startsWith('timeline-')),
  );
}

/** Two hosts with a link of a rate, or for `local` two processes of this machine. */
function withPair(rate, measure) {
  if (rate === 'local') return oneMachine(measure);
  // A millisecond's worth may pass at once: no network lets more pass, and gradients of small networks would travel for nothing.
  const [, number, unit] = /^([\d.]+)([gm])bit$/.exec(rate) ?? [];
  if (number === undefined)
    throw new Error(
      `flag --rates: ${rate} is none; write it as 1gbit or 100mbit, or local for two processes of this machine.`,
    );
  const burst = Math.ceil((Number(number) * (unit === 'g' ? 1e9 : 1e6)) / 8 / 1000);
  return withTwoHosts(`${rate} ${burst}b`, measure);
}

async function compare(rate) {
  await withPair(rate, async (hosts) => {
    const timeline = await makeTimeline(hosts);
    const fitted = hosts.job(
      'bench all_reduce',
      ['bench', 'all_reduce', '--fit', '--json', '--all_reduce_alg=rank_order', `--max_bytes=${flags.fit_bytes}`],
      limit,
    );
    if (!fitted.fit.rank_order) throw new Error(`${rate}: the times of all-reduces do not grow with their bytes.`);
    const file = join(folder, 'network.json');
    writeFileSync(file, JSON.stringify(fitted));
    const { latency_us: latency, bandwidth_gbit: gbit } = fitted.fit.rank_order;
    console.log(`\n${rate}: ${latency.toFixed(0)} µs, ${gbit.toFixed(3)} Gbit/s as fitted\n`);
    console.log('| wire | packs | predicted, ms | measured, ms | predicted ÷ measured | without messages, ms |');
    console.log('|---|---|---|---|---|---|');
    for (const wire of ['f32', 'bf16']) {
      const plan = async (more) => {
        const words = [
          'plan',
          `--timeline=${timeline}`,
          `--network=${file}`,
          `--batch_size=${flags.batch_size}`,
          '--workers=2',
        ];
        const output = await hosts.alone(
          'a',
          [...words, '--all_reduce_alg=rank_order', `--wire=${wire}`, '--json', ...more],
          limit,
        );
        return JSON.parse(output.trim().split('\n').at(-1)).rows[0];
      };
      const measure = (count) =>
        hosts.job(
          `${count} packs`,
          [
            ...['bench', 'resnet', '--json', THREAD, `--dataset=${flags.dataset}`, ...network, `--warmup=${WARM_UP}`],
            ...[
              `--steps=${flags.steps}`,
              `--rounds=${flags.rounds}`,
              `--num_packs=${count}`,
              `--gradient_dtype=${wire}`,
            ],
          ],
          limit,
        );
      const rows = [];
      for (const count of packs) {
        const { stepMs } = await plan([`--num_packs=${count}`]);
        const report = measure(count);
        rows.push(report.step_ms);
        errors.push(Math.abs(stepMs / report.step_ms - 1));
        const apart = (2000 * Number(flags.batch_size)) / report.apart_images_per_second;
        console.log(
          `| ${wire} | ${count} | ${stepMs.toFixed(1)} | ${report.step_ms.toFixed(1)} | ${(stepMs / report.step_ms).toFixed(3)} | ${apart.toFixed(1)} |`,
        );
      }
      const auto = measure('auto');
      const best = Math.min(...rows);
      const [said = 'nothing was said'] = /num_packs=auto:.*/.exec(auto.said) ?? [];
      console.log(
        `| ${wire} | auto | | ${auto.step_ms.toFixed(1)} | best measured ÷ auto: ${(best / auto.step_ms).toFixed(3)} | |`,
      );
      console.log(`\n${said}\n`);
    }
  });
}

try {
  console.log(
    `ResNet-${flags.resnet_size}, ${flags.dataset}, ${flags.batch_size} images on each of two, a thread each`,
  );
  for (const rate of flags.rates.split(',')) await compare(rate);
  console.log(`\nmedian error of the prediction: ${(100 * summarize(errors).median).toFixed(1)} %`);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
