// Scaling from one host to two over a link of a given rate, as a table: two network namespaces on this machine, one process of
// one thread in each. Needs root, iproute2 and Open MPI.
//
//   node scripts/bench-two-hosts.mjs [--rate=1gbit] [--only=NAME] [flags of `lockstep bench resnet`]
//
// Without flags: ResNet-50, 16 images per worker, and a warm-up in which the step is recorded. Each row is one run of
// `lockstep bench resnet` under mpirun, which measures one worker alone, and both without messages, in the same run.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const script = join(root, 'scripts', 'two-hosts.sh');
const bin = join(root, 'packages', 'lockstep', 'dist', 'bin.js');
const LIMIT_MS = 300_000;

const own = { rate: '1gbit', only: '' };
const flags = process.argv.slice(2).filter((word) => {
  const [, name, value] = /^--(rate|only)=(.*)$/.exec(word) ?? [];
  if (name) own[name] = value;
  return !name;
});
const model =
  flags.length > 0
    ? flags
    : ['--dataset=imagenet', '--resnet_size=50', '--batch_size=16', '--warmup=6', '--steps=4', '--rounds=2'];

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

const name = `lockstep-bench-${process.pid}`;
const folder = mkdtempSync(join(tmpdir(), 'lockstep-bench-'));
const agent = join(folder, 'agent.sh');
writeFileSync(agent, `#!/bin/sh\nexec '${script}' agent "$@"\n`);
chmodSync(agent, 0o755);
const up = spawnSync(script, ['up', name, own.rate], { encoding: 'utf8' });
try {
  if (up.status !== 0) throw new Error(`There can be no two hosts here: ${up.stderr.trim()}`);
  console.log(`\`lockstep bench resnet ${model.join(' ')}\` on two hosts joined by ${own.rate}:\n`);
  console.log(
    '| gradients | step, ms | backward | reduce | images/s | one host | of twice that | both apart | of that |',
  );
  console.log('|---|---|---|---|---|---|---|---|---|');
  for (const { name: title, flags: more } of ROWS) {
    const mpirun = ['mpirun', '--allow-run-as-root', '--bind-to', 'none', '--mca', 'plm_rsh_agent', agent];
    const hosts = ['--host', '10.77.0.1:1,10.77.0.2:1'];
    const bench = [
      process.execPath,
      bin,
      'bench',
      'resnet',
      '--json',
      '--intra_op_parallelism_threads=1',
      ...model,
      ...more,
    ];
    const { stdout, stderr, status } = spawnSync(script, ['exec', name, 'a', ...mpirun, ...hosts, ...bench], {
      encoding: 'utf8',
      timeout: LIMIT_MS,
      env: { ...process.env, LOCKSTEP_TWO_HOSTS: name },
    });
    if (status !== 0) throw new Error(`${title}: ${stderr || stdout}`);
    const r = JSON.parse(stdout.trim().split('\n').at(-1));
    const cells = [
      title,
      r.step_ms.toFixed(0),
      r.phase_ms.backward.toFixed(0),
      r.phase_ms.reduce.toFixed(0),
      r.images_per_second.toFixed(2),
      r.alone_images_per_second.toFixed(2),
      r.scaling_efficiency.toFixed(3),
      r.apart_images_per_second.toFixed(2),
      r.fraction_of_apart.toFixed(3),
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  spawnSync(script, ['down', name]);
  rmSync(folder, { recursive: true, force: true });
}
