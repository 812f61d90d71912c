/**
 * The scripts themselves. bash and zsh share two functions of data, which are plain shell; fish takes one line for each flag.
 * Nothing is started while a person types: a script knows all words from the day it was printed.
 */
import type { FlagWords, Words } from './words.js';

export type Shell = 'bash' | 'zsh' | 'fish';

/** How each is put to use, for the comment at its head and the help. */
export const INSTALL: Readonly<Record<Shell, string>> = {
  bash: 'eval "$(lockstep completion bash)"    # in ~/.bashrc',
  zsh: 'eval "$(lockstep completion zsh)"     # in ~/.zshrc, after compinit',
  fish: 'lockstep completion fish > ~/.config/fish/completions/lockstep.fish',
};

export function completionScript(shell: Shell, words: readonly Words[]): string {
  const head = `# ${INSTALL[shell]}\n`;
  switch (shell) {
    case 'bash':
      return `${head}${dataFunctions(words)}${BASH}`;
    case 'zsh':
      return `${head}${dataFunctions(words)}${ZSH}`;
    case 'fish':
      return `${head}${fish(words)}`;
    default:
      throw new Error(`no script for ${shell satisfies never}`);
  }
}

/**
 * Shell functions: the words that may follow a command ('--name=' for a flag with a value), and the values of a flag: words, or
 * `@file`. Names and values are letters, digits, `_`, `-`, `.`, so nothing has to be quoted but the whole.
 */
function dataFunctions(words: readonly Words[]): string {
  const next = words.map(({ path, commands, flags }) => {
    const names = [...commands, ...flags.map(({ name, value }) => `--${name}${value === 'none' ? '' : '='}`)];
    return `    '${path}') echo '${names.join(' ')}' ;;\n`;
  });
  const values = words.flatMap(({ path, flags }) =>
    flags.flatMap(({ name, value }) => {
      if (value === 'none' || value === 'any') return [];
      return [`    '${path} ${name}') echo '${value === 'file' ? '@file' : value.join(' ')}' ;;\n`];
    }),
  );
  return `_lockstep_next() {\n  case "$1" in\n${next.join('')}  esac\n}\n_lockstep_values() {\n  case "$1" in\n${values.join('')}  esac\n}\n`;
}

/** Which command the words before the cursor name; after `launch … --` it is that of the command that is launched. */
const PATH_OF = `_lockstep_path() {
  local path='' word known
  for word in "$@"; do
    if [ "$word" = -- ]; then path=''; continue; fi
    case "$word" in -*) continue ;; lockstep) [ -z "$path" ] && continue ;; esac
    known=" $(_lockstep_next "$path") "
    case "$known" in *" $word "*) path="\${path:+$path }$word" ;; esac
  done
  echo "$path"
}
`;

const BASH = `${PATH_OF}_lockstep() {
  local word="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" flag='' path candidates
  path=$(_lockstep_path "\${COMP_WORDS[@]:1:COMP_CWORD-1}")
  # bash takes = for a word of its own.
  if [ "$word" = = ]; then flag="$before" word=''
  elif [ "$before" = = ]; then flag="\${COMP_WORDS[COMP_CWORD-2]}"
  else case " $(_lockstep_next "$path") " in *" $before= "*) flag="$before" ;; esac
  fi
  COMPREPLY=()
  if [ -n "$flag" ]; then
    candidates=$(_lockstep_values "$path \${flag#--}")
    if [ "$candidates" = @file ]; then
      compopt -o filenames 2> /dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      return
    fi
  else
    candidates=$(_lockstep_next "$path")
    # All flags at once are no help to somebody who looks for a command.
    case "$word" in -*) ;; *) [ "$path" = '' ] || [ "$path" = bench ] || [ "$path" = completion ] || return ;; esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$word")
  case "\${COMPREPLY[*]}" in *=) [ \${#COMPREPLY[@]} = 1 ] && compopt -o nospace 2> /dev/null ;; esac
}
complete -F _lockstep lockstep
`;

const ZSH = `${PATH_OF}_lockstep() {
  local word="\${words[CURRENT]}" before="\${words[CURRENT-1]}" flag='' path_ candidates
  local -a one with
  path_=$(_lockstep_path "\${(@)words[2,CURRENT-1]}")
  case "$word" in
    --*=*) flag="\${word%%=*}" ;;
    *) case " $(_lockstep_next "$path_") " in *" $before= "*) flag="$before" ;; esac ;;
  esac
  if [ -n "$flag" ]; then
    candidates=$(_lockstep_values "$path_ \${flag#--}")
    compset -P '*='
    if [ "$candidates" = @file ]; then _files; else compadd -- \${(s: :)candidates}; fi
    return
  fi
  candidates=$(_lockstep_next "$path_")
  for word in \${(s: :)candidates}; do
    case "$word" in *=) with+=("$word") ;; *) one+=("$word") ;; esac
  done
  compadd -- $one
  compadd -S '' -- $with
}
compdef _lockstep lockstep
`;

/** A condition of fish for each command, and under it its words and flags. */
function fish(words: readonly Words[]): string {
  const paths = words.map(({ path }) => `'${path}'`).join(' ');
  const lines = [
    'function __lockstep_at',
    "  set -l path ''",
    '  for word in (commandline -opc)[2..-1]',
    '    if test "$word" = --; set path \'\'; continue; end',
    '    set -l longer (string trim -- "$path $word")',
    `    if contains -- "$longer" ${paths}; set path $longer; end`,
    '  end',
    '  test "$path" = "$argv[1]"',
    'end',
    'complete -c lockstep -f',
  ];
  for (const { path, commands, flags } of words) {
    const at = `__lockstep_at '${path}'`;
    for (const name of commands) {
      const known = words.find((one) => one.path === `${path} ${name}`.trim());
      lines.push(`complete -c lockstep -n "${at}" -a '${name}' -d ${quote(known?.summary ?? '')}`);
    }
    for (const flag of flags)
      lines.push(`complete -c lockstep -n "${at}" -l '${flag.name}' ${fishValue(flag)}-d ${quote(flag.help)}`);
  }
  return `${lines.join('\n')}\n`;
}

function fishValue({ value }: FlagWords): string {
  if (value === 'none') return '';
  if (value === 'any') return '-x ';
  return value === 'file' ? '-r -F ' : `-x -a '${value.join(' ')}' `;
}

function quote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
