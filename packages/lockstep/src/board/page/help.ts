/** What the keyboard does, as it is listed by `?`. */
import { h } from './dom.js';

export const SHORTCUTS: readonly (readonly [keys: readonly string[], what: string])[] = [
  [['1', '…', '6'], 'open a view'],
  [['/'], 'filter runs'],
  [['r'], 'show or hide the list of runs'],
  [['x'], 'axis: step, relative time, clock'],
  [['l'], 'logarithmic values'],
  [['[', ']'], 'less or more smoothing'],
  [['+', '−'], 'zoom in or out'],
  [['⇧ ←', '⇧ →'], 'move to earlier or later'],
  [['0'], 'show everything'],
  [['←', '→'], 'in a plot: move the cursor'],
  [['Enter'], 'in a plot: larger or smaller'],
  [['t'], 'theme: as the system, light, dark'],
  [['?'], 'this list'],
];

export function helpDialog(): HTMLDialogElement {
  const dialog = h(
    'dialog',
    { class: 'help', 'aria-label': 'Keyboard' },
    h(
      'header',
      {},
      h('h2', {}, 'Keyboard'),
      h('button', { type: 'button', class: 'icon', 'aria-label': 'Close', onclick: () => dialog.close() }, '✕'),
    ),
    h(
      'dl',
      {},
      ...SHORTCUTS.flatMap(([keys, what]) => [
        h('dt', {}, ...keys.map((key) => (key === '…' ? ' … ' : h('kbd', {}, key)))),
        h('dd', {}, what),
      ]),
    ),
    h(
      'p',
      { class: 'section-note' },
      'In a plot: drag over a range to zoom, two clicks show everything. The wheel zooms with ctrl or alt, and moves with shift.',
    ),
  );
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
  return dialog;
}
