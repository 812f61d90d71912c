/** What all plots have in common: colours of the page for canvas, axes, zooming by wheel and by drag, and cursors that move together. */
import type uPlot from 'uplot';
import { show } from './dom.js';
import type { Range, Store } from './store.js';

export interface PlotColors {
  readonly text: string;
  readonly grid: string;
  readonly background: string;
}

/** A canvas knows no variables of CSS. */
export function plotColors(): PlotColors {
  const probe = document.createElement('i');
  document.body.append(probe);
  const color = (name: string) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const colors = { text: color('--muted'), grid: color('--grid'), background: color('--card') };
  probe.remove();
  return colors;
}

const FONT = '11px system-ui, sans-serif';

export function axes({ text, grid }: PlotColors, format: (value: number) => string, store: Store): uPlot.Axis[] {
  const common = { stroke: text, font: FONT, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
  const places = (_: uPlot, values: number[]) => values.map((value) => placeName(value, store));
  return [
    { ...common, size: 24, gap: 4, space: 64, ...(store.axis === 'wall' ? {} : { values: places }) },
    {
      ...common,
      size: 52,
      gap: 4,
      space: 32,
      values: (_, values) => values.map((value) => (value === null ? '' : format(value))),
    },
  ];
}

function placeName(value: number, store: Store): string {
  if (store.axis === 'relative') return `${show(value)} h`;
  if (value >= 1e6) return `${show(value / 1e6)} M`;
  return value >= 10_000 ? `${show(value / 1000)} k` : show(value);
}

/** A drag marks a range, ctrl or alt with the wheel zooms, shift with it moves, two clicks show all. */
export function cursor(store: Store): uPlot.Cursor {
  return {
    sync: { key: 'board', setSeries: false },
    drag: { x: true, y: false, setScale: false },
    focus: { prox: 24 },
    points: { size: 7 },
    bind: {
      dblclick: () => () => {
        store.setRange(null);
        return null;
      },
    },
  };
}

export const zoomHooks = (store: Store): uPlot.Hooks.Arrays => ({
  setSelect: [
    (plot) => {
      const { left, width } = plot.select;
      if (width < 6) return;
      const [min, max] = [plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x')];
      plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      store.setRange({ min, max });
    },
  ],
  ready: [
    (plot) => {
      plot.over.addEventListener(
        'wheel',
        (event) => {
          const isZoom = event.ctrlKey || event.altKey || event.metaKey;
          if (!isZoom && !event.shiftKey) return;
          event.preventDefault();
          const { min, max } = plot.scales.x as Range;
          const at = plot.posToVal(event.offsetX, 'x');
          const turned = event.deltaY || event.deltaX;
          soon(store, isZoom ? zoomed({ min, max }, Math.exp(turned / 500), at) : moved({ min, max }, turned / 1000));
        },
        { passive: false },
      );
    },
  ],
});

export function zoomed({ min, max }: Range, factor: number, at = (min + max) / 2): Range {
  return { min: at - (at - min) * factor, max: at + (max - at) * factor };
}

export function moved({ min, max }: Range, part: number): Range {
  const by = (max - min) * part;
  return { min: min + by, max: max + by };
}

let pending: Range | null = null;

/** At most once for each picture that is drawn. */
export function soon(store: Store, range: Range): void {
  if (pending === null) {
    requestAnimationFrame(() => {
      const next = pending as Range;
      pending = null;
      store.setRange(next);
    });
  }
  pending = range;
}
