/**
 * How oneDNN is installed on this system, for messages: Debian and its descendants put the version into the package's name, and it is
 * another one in each release. The lists of apt know it; where there are none, /etc/os-release says which release this is.
 *
 * scripts/setup.mjs, which runs before anything is installed, has a copy of the rule; a test keeps them alike.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** What a system says of itself. */
export interface SystemInfo {
  /** The text of /etc/os-release, '' where there is none. */
  readonly osRelease: string;
  /** What `apt-cache pkgnames libdnnl` prints, '' where there is no apt or it has no lists. */
  readonly aptNames: string;
}

const APT_LIMIT_MS = 5000;

let known: SystemInfo | null = null;

/** Asked once per thread: who lists devices without the library asks often. */
function systemInfo(): SystemInfo {
  known ??= askSystem();
  return known;
}

function askSystem(): SystemInfo {
  let osRelease = '';
  try {
    osRelease = readFileSync('/etc/os-release', 'utf8');
  } catch {
    // Not Linux, or a very small one.
  }
  const { stdout } = spawnSync('apt-cache', ['pkgnames', 'libdnnl'], { encoding: 'utf8', timeout: APT_LIMIT_MS });
  return { osRelease, aptNames: stdout ?? '' };
}

/** @returns 'libdnnl2', 'libdnnl3.6' …; null where this is no system with apt, or its package is not known. */
export function libraryPackage({ osRelease, aptNames }: SystemInfo): string | null {
  const listed = aptNames.split('\n').filter((name) => /^libdnnl\d[\d.]*$/.test(name));
  if (listed.length > 0) return listed.sort().at(-1) as string;
  const field = (name: string) => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(osRelease)?.[1] ?? '';
  const version = Number.parseFloat(field('VERSION_ID'));
  if (field('ID') === 'debian') return version <= 12 ? 'libdnnl2' : 'libdnnl3.6';
  if (field('ID') === 'ubuntu' && version <= 22.04) return 'libdnnl2';
  return null;
}

/** One sentence: the command that installs oneDNN here, as root. */
export function installCommand(system: SystemInfo = systemInfo()): string {
  const name = libraryPackage(system);
  if (name !== null) return `run \`apt-get install ${name}\` as root`;
  if (/^ID(_LIKE)?=.*(debian|ubuntu)/m.test(system.osRelease))
    return 'run `apt-get install` as root for the package that `apt-cache pkgnames libdnnl` names after `apt-get update`';
  return "install oneDNN 2.6, 2.7 or 3.x with this system's package manager";
}
