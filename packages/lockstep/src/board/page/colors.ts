/**
 * Colours of runs: Okabe and Ito's, which people with every kind of colour vision tell apart, made a little darker on white and lighter on
 * black. Behind the eighth the colours come again with dashes. A run keeps what it once had, also on the next visit.
 */

export interface RunStyle {
  readonly color: string;
  readonly dash: readonly number[];
}

const LIGHT = ['#0072b2', '#d55e00', '#00896a', '#b8558f', '#b07d00', '#3f9bd1', '#5b4fa2', '#4d4d4d'];
const DARK = ['#56a8e0', '#f08a3c', '#2bc49b', '#e08fc0', '#e6b422', '#8fd0f5', '#a79bf0', '#c9c9c9'];
const DASHES: readonly (readonly number[])[] = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

/** Runs whose colours are remembered. */
const MOST_KEPT = 5000;

/** Of a step's phases, in their order. */
export const PHASES = ['input', 'forward', 'backward', 'reduce', 'update', 'other'] as const;
const PHASE_LIGHT = ['#b8558f', '#3f9bd1', '#0072b2', '#d55e00', '#00896a', '#a8a8a8'];
const PHASE_DARK = ['#e08fc0', '#8fd0f5', '#4a9ad6', '#f08a3c', '#2bc49b', '#777777'];

export function phaseColor(phase: string, isDark: boolean): string {
  const at = PHASES.indexOf(phase as never);
  return (isDark ? PHASE_DARK : PHASE_LIGHT)[at < 0 ? 5 : at] as string;
}

/** Black or white, whichever is read better on a colour. @param color @param paper '#rrggbb' or 'rgb(…)' @param part of the paper that it covers */
export function inkOn(color: string, paper: string, part: number): string {
  const [ink, under] = [channels(color), channels(paper)] as const;
  const [red = 0, green = 0, blue = 0] = ink
    .map((value, i) => part * value + (1 - part) * (under[i] as number))
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  // Where (1 + 0.05) / (L + 0.05) and (L + 0.05) / 0.05 are the same: WCAG's contrast with white and with black.
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? '#000' : '#fff';
}

/** From 0 to 1. */
function channels(color: string): number[] {
  const found = color.startsWith('#')
    ? [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16))
    : (color.match(/\d+/g) ?? []).map(Number);
  return found.slice(0, 3).map((value) => value / 255);
}

export class Palette {
  #places: Map<string, number>;

  /** @param key the folder: another one has other runs */
  constructor(private readonly key: string) {
    let kept: [string, number][] = [];
    try {
      kept = JSON.parse(localStorage.getItem(this.#name) ?? '[]') as [string, number][];
    } catch {
      // Not allowed to keep anything, or something else is there.
    }
    this.#places = new Map(Array.isArray(kept) ? kept.filter((one) => Array.isArray(one)) : []);
  }

  /**
   * Gives runs that are drawn their places: what each once had, if no other one that is drawn has it, else the first that is free.
   * @param names the oldest first
   */
  meet(names: readonly string[]): void {
    const taken = new Set<number>();
    const others = names.filter((name) => {
      const place = this.#places.get(name);
      if (place === undefined || taken.has(place)) return true;
      taken.add(place);
      return false;
    });
    let next = 0;
    for (const name of others) {
      while (taken.has(next)) next++;
      taken.add(next);
      this.#places.set(name, next);
    }
    if (others.length === 0) return;
    try {
      localStorage.setItem(this.#name, JSON.stringify([...this.#places].slice(-MOST_KEPT)));
    } catch {
      // The colours hold for this visit.
    }
  }

  /** Grey for what was never drawn. */
  of(name: string, isDark: boolean): RunStyle {
    const place = this.#places.get(name);
    if (place === undefined) return { color: isDark ? '#5a6270' : '#b9bfc9', dash: [] };
    const colors = isDark ? DARK : LIGHT;
    return {
      color: colors[place % colors.length] as string,
      dash: DASHES[Math.floor(place / colors.length) % DASHES.length] as readonly number[],
    };
  }

  get #name(): string {
    return `lockstep-board-colors:${this.key}`;
  }
}
