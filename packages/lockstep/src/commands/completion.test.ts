/** Completion in real shells: each is given the script and a line, and says what it would put there. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { COMMANDS } from '../cli.js';
import { lockstep } from '../testing/process.js';
import { BENCHMARKS } from './bench.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-completion-'));
const script = (shell: string) => join(folder, `script.${shell}`);
before(async () => {
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { status, output, describe: shown } = await lockstep(['completion', shell]);
    assert.equal(status, 0, shown());
    writeFileSync(script(shell), output);
  }
  mkdirSync(join(folder, 'data'));
  writeFileSync(join(folder, 'day'), '');
});
after(() => rmSync(folder, { recursive: true, force: true }));

const whyNo = (shell: string) =>
  spawnSync(shell, ['-c', 'true']).status === 0 ? false : `${shell} is not installed (apt-get install ${shell})`;

function run(shell: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(shell, args, { cwd: folder, encoding: 'utf8', timeout: 60_000 });
  assert.equal(status, 0, stdout + stderr);
  assert.equal(stderr, '');
  return stdout;
}

const sorted = (words: readonly string[]) => [...words].sort();

describe('bash', { skip: whyNo('bash') }, () => {
  /** The words of a line as bash splits it, = for itself; the last is the one under the cursor. */
  const ask = (...words: string[]): string[] => {
    const program = `source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _lockstep; printf "%s\\n" "\${COMPREPLY[@]}"`;
    return run('bash', ['--norc', '-c', program, script('bash'), 'lockstep', ...words])
      .split('\n')
      .filter(Boolean);
  };

  it('completes commands, and commands of commands', () => {
    assert.deepEqual(sorted(ask('')), sorted([...Object.keys(COMMANDS), 'version', 'help']));
    assert.deepEqual(ask('ci'), ['cifar10']);
    assert.deepEqual(sorted(ask('bench', '')), sorted(Object.keys(BENCHMARKS)));
    assert.deepEqual(ask('completion', 'z'), ['zsh']);
  });

  it('completes flags of the command, after others too, and none of another', () => {
    assert.deepEqual(ask('cifar10', '--resnet_'), ['--resnet_size=', '--resnet_version=']);
    assert.deepEqual(ask('cifar10', '--data_dir', '=', 'd', '--batch_size', '=', '4', '--nocl'), ['--noclean']);
    assert.deepEqual(ask('devices', '--resnet_'), []);
    assert.deepEqual(ask('bench', 'resnet', '--dt'), ['--dtype=']);
    assert.deepEqual(ask('bench', 'layers', '--helpf'), ['--helpfull']);
    assert.deepEqual(ask('cifar10', ''), [], 'a hundred flags are no help');
  });

  it('completes values: those of an enumeration, and paths', () => {
    assert.deepEqual(sorted(ask('cifar10', '--progress', '=')), ['auto', 'bar', 'none', 'plain']);
    assert.deepEqual(ask('cifar10', '--progress', '=', 'pl'), ['plain']);
    assert.deepEqual(ask('cifar10', '--progress', 'b'), ['bar']);
    assert.deepEqual(sorted(ask('cifar10', '--data_dir', '=', 'da')), ['data', 'day']);
    assert.deepEqual(ask('cifar10', '--batch_size', '=', ''), []);
    assert.deepEqual(ask('cifar10', '--num_packs', '=', 'a'), ['auto']);
  });

  it('completes what is launched', () => {
    assert.deepEqual(ask('launch', '--hosts', '=', 'a:2,b:2', '--', 'cifar10', '--nocl'), ['--noclean']);
    assert.deepEqual(ask('launch', '--', 'dev'), ['devices']);
  });
});

describe('zsh', { skip: whyNo('zsh') }, () => {
  /**
   * A line with a tab in an interactive zsh, and what becomes of it: typed behind a #, it is echoed as no command. The keys are emacs':
   * zsh takes vi's where EDITOR says so, as npm does.
   */
  const PROGRAM = `
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "bindkey -e; PS1=; autoload -U compinit; compinit -u -D; source $1; unsetopt beep; print rea''dy"
text=
while zpty -r shell out; do text+=$out; [[ $text == *ready* ]] && break; done
zpty -w -n shell "$2"$'\\t\\C-a#\\n'
text=
while zpty -r shell out; do text+=$out; [[ $text == *'not found'* ]] && break; done
zpty -d shell
print -r -- $text`;
  const ask = (line: string): string => {
    const text = run('zsh', ['-f', '-c', PROGRAM, 'zsh', script('zsh'), line]);
    return /#(lockstep [\w .=,:/-]*)/.exec(text)?.[1]?.trim() ?? text;
  };

  it('completes commands, flags and values, of what is launched too', () => {
    assert.equal(ask('lockstep dow'), 'lockstep download-cifar10');
    assert.equal(ask('lockstep bench kern'), 'lockstep bench kernels');
    assert.equal(ask('lockstep cifar10 --prog'), 'lockstep cifar10 --progress=');
    assert.equal(ask('lockstep cifar10 --progress=pl'), 'lockstep cifar10 --progress=plain');
    // The slash behind a folder goes when another key comes.
    assert.equal(ask('lockstep cifar10 --data_dir=dat'), 'lockstep cifar10 --data_dir=data');
    assert.equal(ask('lockstep launch --hosts=a -- cifar10 --nocle'), 'lockstep launch --hosts=a -- cifar10 --noclean');
  });
});

describe('fish', { skip: whyNo('fish') }, () => {
  const ask = (line: string): string[] =>
    run('fish', ['--no-config', '-c', 'source $argv[1]; complete -C $argv[2]', script('fish'), line])
      .split('\n')
      .filter(Boolean)
      .map((one) => one.split('\t')[0] as string);

  it('completes commands, flags and values', () => {
    assert.deepEqual(sorted(ask('lockstep ')), sorted([...Object.keys(COMMANDS), 'version', 'help']));
    assert.deepEqual(ask('lockstep bench kern'), ['kernels']);
    assert.deepEqual(sorted(ask('lockstep cifar10 --resnet_')), ['--resnet_size', '--resnet_version']);
    assert.deepEqual(ask('lockstep cifar10 --batch_size=4 --nocle'), ['--noclean']);
    assert.deepEqual(ask('lockstep cifar10 --progress=pl'), ['--progress=plain']);
    assert.ok(ask('lockstep cifar10 --data_dir=da').some((word) => word.endsWith('data/')));
    assert.deepEqual(ask('lockstep devices --resnet_'), []);
  });
});

describe('lockstep completion', () => {
  it('without a shell says how each is put to use; another one is an error', async () => {
    const help = await lockstep(['completion']);
    assert.equal(help.status, 0);
    for (const shell of ['bash', 'zsh', 'fish']) assert.match(help.output, new RegExp(`lockstep completion ${shell}`));
    const other = await lockstep(['completion', 'powershell']);
    assert.equal(other.status, 2);
    assert.match(other.output, /^lockstep completion: no script for 'powershell'\.\nhelp: /);
  });
});
