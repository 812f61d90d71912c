/** One of the page's views: made when it is opened, removed when another one is. */
import { h } from './dom.js';

export interface View {
  readonly element: HTMLElement;
  remove(): void;
}

/** What a view says where it has nothing to show, and what would change that. */
export function empty(title: string, ...help: readonly (Node | string)[]): HTMLElement {
  return h(
    'div',
    { class: 'empty-state' },
    h('h2', {}, title),
    ...help.map((one) => (typeof one === 'string' ? h('p', {}, one) : one)),
  );
}

export const command = (text: string): HTMLElement => h('pre', { class: 'command' }, h('code', {}, text));
