/** Elements from a name, properties and children. Text is always text: nothing that comes from a file is ever read as HTML. */

type Child = Node | string | number | null | undefined | false;
type Properties = Readonly<Record<string, unknown>>;

/**
 * @param properties attributes; `on…` with a function listens, `class` may be a list, `style` is an object of CSS properties (set one by
 * one, which a content security policy allows), `dataset` an object; false, null and undefined are left out
 */
export function h<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Properties = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  decorate(element, properties);
  append(element, children);
  return element;
}

/** Puts children in the place of what is there. */
export function fill(element: Element, ...children: readonly Child[]): void {
  element.replaceChildren();
  append(element, children);
}

function append(element: Element, children: readonly Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.append(typeof child === 'number' ? String(child) : child);
  }
}

function decorate(element: HTMLElement, properties: Properties): void {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value as EventListener);
    else if (name === 'style') {
      for (const [key, text] of Object.entries(value as Record<string, string>)) element.style.setProperty(key, text);
    } else if (name === 'dataset') Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
}

/** A number for people: four digits, and no more zeros than it needs. */
export function show(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2).replace('e+', 'e');
  if (size >= 1000) return Math.round(value).toLocaleString('en-US');
  return String(Number(value.toPrecision(4)));
}

export const percent = (value: number, digits = 1): string => `${(100 * value).toFixed(digits)} %`;

/** `1:02:03`, or `42.1 s`. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  if (parts[0] === 0) parts.shift();
  return parts.map((part, i) => (i === 0 ? String(part) : String(part).padStart(2, '0'))).join(':');
}
