/** The page around its views: head, list of runs, tabs, settings of all plots, keyboard; and what follows a run while it goes on. */
import { AllView } from './all-view.js';
import { fill, h } from './dom.js';
import { EvaluationView } from './evaluation-view.js';
import { Facts } from './facts.js';
import { helpDialog } from './help.js';
import { LearningView } from './learning-view.js';
import { Loader } from './loader.js';
import { moved, soon, zoomed } from './plot-style.js';
import { RunList } from './run-list.js';
import { SettingsView } from './settings-view.js';
import { ReportSource } from './source.js';
import { SpeedView } from './speed-view.js';
import type { Axis, Range, Store, Theme } from './store.js';
import { TimelineView } from './timeline-view.js';
import { command, empty, type View } from './view.js';

const VIEWS = ['Learning', 'Speed', 'Timeline', 'Evaluation', 'Settings', 'All'] as const;
type ViewName = (typeof VIEWS)[number];
/** Those with plots over an axis. */
const PLOTTED: ReadonlySet<ViewName> = new Set(['Learning', 'Speed', 'All']);
const AXES: readonly Axis[] = ['step', 'relative', 'wall'];
const AXIS_NAMES: Readonly<Record<Axis, string>> = { step: 'Step', relative: 'Time since begin', wall: 'Clock' };
const THEMES: readonly Theme[] = ['auto', 'light', 'dark'];
const THEME_SIGNS: Readonly<Record<Theme, string>> = { auto: '◐', light: '☀', dark: '☾' };
/** Pushes that come closer together are one. */
const GATHER_MS = 400;

export class Frame {
  readonly element: HTMLElement;
  readonly #loader: Loader;
  readonly #facts: Facts;
  readonly #list: RunList;
  readonly #help = helpDialog();
  readonly #main = h('main', { tabindex: '-1' });
  readonly #notes = h('div', { class: 'notes' });
  readonly #state = h('span', { class: 'state', role: 'status' });
  readonly #folder = h('span', { class: 'folder' });
  readonly #tabs: Record<ViewName, HTMLButtonElement>;
  readonly #theme = h('button', { type: 'button', class: 'icon', onclick: () => this.#nextTheme() });
  readonly #smoothing = h('input', {
    type: 'range',
    min: '0',
    max: '0.99',
    step: '0.01',
    'aria-label': 'Smoothing',
    oninput: () => this.store.set({ smoothing: Number(this.#smoothing.value) }),
  });
  readonly #smoothingText = h('output');
  readonly #axis = h(
    'select',
    { 'aria-label': 'Axis', onchange: () => this.store.set({ axis: this.#axis.value as Axis }) },
    ...AXES.map((axis) => h('option', { value: axis }, AXIS_NAMES[axis])),
  );
  readonly #log = h(
    'button',
    {
      type: 'button',
      class: 'toggle',
      title: 'Logarithmic values (l)',
      onclick: () => this.store.set({ isLog: !this.store.isLog }),
    },
    'log',
  );
  readonly #reset = h(
    'button',
    { type: 'button', class: 'toggle', title: 'Show everything (0)', onclick: () => this.store.setRange(null) },
    'whole range',
  );
  readonly #controls = h('div', { class: 'controls' });
  #view: View | null = null;
  #name: ViewName = 'Learning';
  #pending = new Set<number>();
  #timer: number | null = null;

  constructor(private readonly store: Store) {
    this.#loader = new Loader(store);
    this.#facts = new Facts(store);
    this.#list = new RunList(store);
    this.#tabs = Object.fromEntries(
      VIEWS.map((name, i) => [
        name,
        h('button', { type: 'button', title: `${name} (${i + 1})`, onclick: () => this.#open(name) }, name),
      ]),
    ) as Record<ViewName, HTMLButtonElement>;
    const menu = h(
      'button',
      {
        type: 'button',
        class: 'icon',
        title: 'Runs (r)',
        'aria-label': 'Show or hide the runs',
        onclick: () => this.#toggleList(),
      },
      '☰',
    );
    const help = h(
      'button',
      {
        type: 'button',
        class: 'icon',
        title: 'Keyboard (?)',
        'aria-label': 'Keyboard',
        onclick: () => this.#help.showModal(),
      },
      '?',
    );
    this.element = h(
      'div',
      { class: 'frame' },
      h(
        'header',
        { class: 'top' },
        menu,
        h('h1', {}, 'Lockstep ', h('small', {}, store.source.isReport ? 'report' : 'board')),
        this.#folder,
        this.#state,
        h('span', { class: 'gap' }),
        this.#theme,
        help,
      ),
      this.#list.element,
      h(
        'div',
        { class: 'content' },
        h(
          'div',
          { class: 'bar' },
          h('nav', { class: 'tabs', 'aria-label': 'Views' }, ...Object.values(this.#tabs)),
          this.#controls,
        ),
        this.#notes,
        this.#main,
      ),
      this.#help,
    );
    this.#controls.append(
      this.#reset,
      h(
        'label',
        { class: 'smoothing', title: 'Smoothing ([ and ])' },
        'Smoothing ',
        this.#smoothing,
        this.#smoothingText,
      ),
      this.#axis,
      this.#log,
    );
    if (matchMedia('(max-width: 720px)').matches) this.element.classList.add('closed');
  }

  async start(): Promise<void> {
    const { store } = this;
    store.listen((change) => {
      if (change === 'data') this.#say();
      else if (change !== 'hover') this.#update();
    });
    document.addEventListener('keydown', (event) => this.#key(event));
    addEventListener('hashchange', () => this.#open(this.#named(location.hash)));
    this.#update();
    try {
      await store.load(null);
    } catch (error) {
      store.isConnected = false;
      fill(
        this.#main,
        empty(
          'The board does not answer',
          String(error instanceof Error ? error.message : error),
          'Reload the page when `lockstep board` runs again.',
        ),
      );
    }
    this.#open(this.#named(location.hash));
    store.source.follow(
      (runs) => this.#follow(runs),
      (isConnected) => {
        const isBack = isConnected && !store.isConnected;
        store.isConnected = isConnected;
        this.#say();
        // Also what was missed.
        if (isBack) this.#follow(store.runs.runs.map(({ id }) => id));
      },
    );
    if (store.runs.isLoading) this.#follow([]);
  }

  #named(hash: string): ViewName {
    return VIEWS.find((name) => `#${name.toLowerCase()}` === hash) ?? 'Learning';
  }

  #follow(runs: readonly number[]): void {
    for (const id of runs) this.#pending.add(id);
    this.#timer ??= window.setTimeout(async () => {
      const changed = [...this.#pending];
      this.#pending = new Set();
      const wasEmpty = this.store.runs.runs.length === 0;
      await this.store.load(changed).catch(() => {});
      this.#timer = null;
      if (wasEmpty !== (this.store.runs.runs.length === 0)) this.#open(this.#name);
      if (this.store.runs.isLoading || this.#pending.size > 0) this.#follow([]);
    }, GATHER_MS);
  }

  #open(name: ViewName): void {
    const { store } = this;
    this.#name = name;
    this.#controls.hidden = !PLOTTED.has(name);
    history.replaceState(null, '', `#${name.toLowerCase()}`);
    for (const [other, tab] of Object.entries(this.#tabs)) {
      if (other === name) tab.setAttribute('aria-current', 'page');
      else tab.removeAttribute('aria-current');
    }
    this.#tabs[name].scrollIntoView({ block: 'nearest', inline: 'nearest' });
    this.#view?.remove();
    this.#view = null;
    if (store.runs.runs.length === 0) {
      if (!store.runs.isLoading) fill(this.#main, this.#noRuns());
      return;
    }
    this.#view = this.#make(name);
    fill(this.#main, this.#view.element);
    // What is drawn on a canvas has to be in the page first.
    store.tell('view');
  }

  #make(name: ViewName): View {
    switch (name) {
      case 'Learning':
        return new LearningView(this.store, this.#loader);
      case 'Speed':
        return new SpeedView(this.store, this.#loader, this.#facts);
      case 'Timeline':
        return new TimelineView(this.store);
      case 'Evaluation':
        return new EvaluationView(this.store, this.#facts);
      case 'Settings':
        return new SettingsView(this.store, this.#facts);
      case 'All':
        return new AllView(this.store, this.#loader, this.#facts);
    }
  }

  #noRuns(): HTMLElement {
    const { folder, problem } = this.store.runs;
    return empty(
      problem ? `${folder} cannot be looked into` : 'No runs here yet',
      problem ??
        `There are no event files in ${folder} or below. This page shows a run as soon as it writes its first figures; for example:`,
      command(`lockstep cifar10 --data_dir=cifar10 --model_dir=${folder}`),
      'Runs of TensorFlow, Keras and PyTorch show as well.',
    );
  }

  #update(): void {
    const { store } = this;
    const { theme, isDark, smoothing, axis, isLog, range } = store;
    document.documentElement.dataset.theme = isDark ? 'dark' : 'light';
    this.#theme.textContent = THEME_SIGNS[theme];
    this.#theme.title = `Theme: ${theme === 'auto' ? 'as the system' : theme} (t)`;
    this.#theme.setAttribute('aria-label', this.#theme.title);
    this.#smoothing.value = String(smoothing);
    this.#smoothingText.textContent = smoothing.toFixed(2);
    this.#axis.value = axis;
    this.#log.setAttribute('aria-pressed', String(isLog));
    this.#reset.hidden = range === null;
    this.#say();
  }

  #say(): void {
    const { runs, isConnected, source, shown } = this.store;
    this.#folder.textContent = runs.folder;
    this.#folder.title = runs.folder;
    const live = runs.runs.filter(({ isLive }) => isLive).length;
    this.#state.className = `state ${!isConnected ? 'lost' : live > 0 ? 'live' : ''}`;
    if (source instanceof ReportSource)
      this.#state.textContent = `made ${new Date(source.data.made * 1000).toLocaleString()}`;
    else
      this.#state.textContent = !isConnected
        ? 'the board has ended; it is tried again'
        : live > 0
          ? `${live} live`
          : 'up to date';
    const notes = shown.flatMap(({ name, notes: each }) => each.map((note) => `${name}: ${note}`));
    fill(
      this.#notes,
      ...notes.slice(0, 3).map((note) => h('p', {}, `⚠ ${note}`)),
      notes.length > 3 && h('p', {}, `and ${notes.length - 3} more`),
    );
  }

  #nextTheme(): void {
    const { theme } = this.store;
    this.store.set({ theme: THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] as Theme });
  }

  #toggleList(): void {
    this.element.classList.toggle('closed');
  }

  #key(event: KeyboardEvent): void {
    const { store } = this;
    const { key } = event;
    const target = event.target as HTMLElement;
    const isTyping =
      /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName) && (target as HTMLInputElement).type !== 'checkbox';
    if (key === 'Escape' && isTyping) {
      // Browsers would empty it, without saying so to whoever has lost the focus.
      event.preventDefault();
      target.blur();
    }
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || this.#help.open) return;
    const view = VIEWS[Number(key) - 1];
    const by = (change: (range: Range) => Range) => {
      const range = store.range ?? this.#everything();
      if (range) soon(store, change(range));
    };
    const acts: Readonly<Record<string, () => void>> = {
      '/': () => {
        this.element.classList.remove('closed');
        this.#list.filter.focus();
      },
      '?': () => this.#help.showModal(),
      r: () => this.#toggleList(),
      t: () => this.#nextTheme(),
      l: () => store.set({ isLog: !store.isLog }),
      x: () => store.set({ axis: AXES[(AXES.indexOf(store.axis) + 1) % AXES.length] as Axis }),
      '[': () => store.set({ smoothing: Math.max(0, Math.round(20 * store.smoothing - 1) / 20) }),
      ']': () => store.set({ smoothing: Math.min(0.95, Math.round(20 * store.smoothing + 1) / 20) }),
      '+': () => by((range) => zoomed(range, 0.7)),
      '=': () => by((range) => zoomed(range, 0.7)),
      '-': () => by((range) => zoomed(range, 1 / 0.7)),
      '0': () => store.setRange(null),
      ...(event.shiftKey && {
        ArrowLeft: () => by((range) => moved(range, -0.15)),
        ArrowRight: () => by((range) => moved(range, 0.15)),
      }),
      ...(view && { [key]: () => this.#open(view) }),
    };
    const act = acts[key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  #everything(): Range | null {
    const { shown, axis } = this.store;
    if (shown.length === 0) return null;
    if (axis === 'step') return { min: 0, max: Math.max(...shown.map(({ step }) => step)) };
    const times = shown.flatMap(({ begin, end }) => (begin === null || end === null ? [] : [{ begin, end }]));
    if (times.length === 0) return null;
    if (axis === 'relative') return { min: 0, max: Math.max(...times.map(({ begin, end }) => (end - begin) / 3600)) };
    return { min: Math.min(...times.map(({ begin }) => begin)), max: Math.max(...times.map(({ end }) => end)) };
  }
}
