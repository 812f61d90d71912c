// Scaling from one host to two over a link of a given rate, as a table: two network namespaces on this machine, one process of
// one thread in each. Needs root, iproute2 and Open MPI.
//
//   node scripts/bench-two-hosts.mjs [--rate=1gbit] [--only=NAME] [--repeat=1] [--limit_secs=900] [flags of `lockstep bench resnet`]
//
// Without flags: ResNet-50, 16 images per worker, and a warm-up in which the step is recorded. Each row is one run of
// `lockstep bench resnet` under mpirun, which measures one worker alone, and both without messages, in the same run. With
// --repeat each row is run so often, and a row of medians follows. No run may take longer than --limit_secs.
import { summarize } from '../packages/lockstep/dist/bench/statistics.js';
import { withTwoHosts } from './two-hosts.mjs';

const own = { rate: '1gbit', only: '', repeat: '1', limit_secs: '900' };
const flags = process.argv.slice(2).filter((word) => {
  const [, name, value] = /^--(rate|only|repeat|limit_secs)=(.*)$/.exec(word) ?? [];
  if (name) own[name] = value;
  return !name;
});
const model =
  flags.length > 0
    ? flags
    : ['--dataset=imagenet', '--resnet_size=50', '--batch_size=16', '--warmup=6', '--steps=4', '--rounds=2'];

for (const flag of ['repeat', 'limit_secs']) {
  if (/^[1-9]\d*$/.test(own[flag])) continue;
  console.error(`flag --${flag}=${own[flag]}: a whole number from 1 is needed.`);
  process.exit(2);
}
const repeats = Number(own.repeat);

const ROWS = [
  { name: 'default', flags: [] },
  { name: '1 pack: no overlap', flags: ['--num_packs=1'] },
  { name: '2 packs', flags: ['--num_packs=2'] },
  { name: '4 packs', flags: ['--num_packs=4'] },
  { name: '8 packs', flags: ['--num_packs=8'] },
  { name: 'bf16 gradients', flags: ['--gradient_dtype=bf16'] },
  { name: 'bf16 gradients, 1 pack', flags: ['--gradient_dtype=bf16', '--num_packs=1'] },
  { name: 'ring', flags: ['--ring'] },
].filter(({ name }) => name.includes(own.only));

/** What a row shows, and how many digits behind the point. */
const COLUMNS = [
  ['step_ms', 0],
  ['backward', 0],
  ['reduce', 0],
  ['images_per_second', 2],
  ['alone_images_per_second', 2],
  ['scaling_efficiency', 3],
  ['apart_images_per_second', 2],
  ['fraction_of_apart', 3],
];

function print(title, figures) {
  console.log(`| ${[title, ...COLUMNS.map(([key, digits]) => figures[key].toFixed(digits))].join(' | ')} |`);
}

const median = (runs, key) => summarize(runs.map((run) => run[key])).median;

/** One run of the benchmark under mpirun. */
function measure(hosts, title, more) {
  const bench = ['bench', 'resnet', '--json', '--intra_op_parallelism_threads=1', ...model, ...more];
  const report = hosts.job(title, bench, Number(own.limit_secs));
  return { ...report, ...report.phase_ms };
}

try {
  await withTwoHosts(own.rate, (hosts) => {
    console.log(`\`lockstep bench resnet ${model.join(' ')}\` on two hosts joined by ${own.rate}:\n`);
    console.log(
      '| gradients | step, ms | backward | reduce | images/s | one host | of twice that | both apart | of that |',
    );
    console.log('|---|---|---|---|---|---|---|---|---|');
    for (const { name: title, flags: more } of ROWS) {
      const runs = [];
      for (let i = 0; i < repeats; i++) {
        runs.push(measure(hosts, title, more));
        print(title, runs.at(-1));
      }
      if (repeats > 1) print(`${title}, medians`, Object.fromEntries(COLUMNS.map(([key]) => [key, median(runs, key)])));
    }
  });
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
