/**
 * The page: reads the digits into shared memory, starts replicas on Web Workers, and shows what they report. The marked lines are the same
 * as in a program on Node.
 */
import { MirroredStrategy } from '@lockstep/distribute'; // Lockstep
import type { Outcome, Progress, Task } from './train.js';

const SIZE = 28 * 28;
const MAX_REPLICAS = 8;

const element = <T extends Element = HTMLElement>(id: string) => document.getElementById(id) as unknown as T;
const value = (id: string) => Number(element<HTMLInputElement>(id).value);
const show = (id: string, text: string) => {
  element(id).textContent = text;
};

/** Labels, then pixels, in memory that replicas share. */
async function readDigits(): Promise<Pick<Task, 'pixels' | 'labels'>> {
  const bytes = new Uint8Array(await (await fetch('digits.bin')).arrayBuffer());
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
  shared.set(bytes);
  const count = bytes.length / (1 + SIZE);
  return { labels: shared.subarray(0, count), pixels: shared.subarray(count) };
}

function strategyOf(replicas: number): MirroredStrategy {
  const devices = Array.from({ length: replicas }, (_, i) => `cpu:${i}`);
  return new MirroredStrategy({ devices, log: () => {} }); // Lockstep
}

async function train(replicas: number, steps: number, batchSize: number): Promise<Outcome[]> {
  const strategy = strategyOf(replicas);
  // Made before the digits are read: on a page that may not share memory this is where that is said.
  const module = new URL('./train.js', import.meta.url);
  if (typeof SharedArrayBuffer === 'undefined') await strategy.run(module);
  const { pixels, labels } = await readDigits();
  const training = Math.floor(0.9 * labels.length);
  const task: Task = { pixels, labels, training, steps, batchSize, learningRate: 0.05 };
  const view = new View(replicas, steps, batchSize);
  const outcomes = await strategy.run<Outcome>(module, task, {
    onReport: (replica, progress) => view.take(replica, progress as Progress),
  }); // Lockstep
  view.finish(outcomes);
  return outcomes;
}

/** What is on the screen. */
class View {
  readonly #begin = performance.now();
  readonly #losses: number[] = [];
  readonly #rows: { bar: HTMLProgressElement; text: HTMLSpanElement }[];

  constructor(
    private readonly replicas: number,
    private readonly steps: number,
    private readonly batchSize: number,
  ) {
    element('list').replaceChildren();
    this.#rows = Array.from({ length: replicas }, (_, i) => {
      const row = document.createElement('li');
      const [name, text, bar] = [
        document.createElement('span'),
        document.createElement('span'),
        document.createElement('progress'),
      ];
      name.textContent = `Replica ${i}`;
      text.textContent = 'starting';
      bar.max = steps;
      bar.value = 0;
      bar.ariaLabel = `Steps of replica ${i}`;
      row.append(name, text, bar);
      element('list').append(row);
      return { bar, text };
    });
    show('last', `step ${steps}`);
    for (const id of ['summary', 'speed', 'loss', 'step', 'accuracy']) show(id, id === 'summary' ? '' : '–');
    this.#draw();
  }

  take(replica: number, { step, loss, milliseconds }: Progress): void {
    const row = this.#rows[replica];
    if (row) {
      row.bar.value = step;
      row.text.textContent = `step ${step}, ${milliseconds.toFixed(0)} ms`;
    }
    if (replica !== 0) return;
    this.#losses.push(loss);
    show('step', `${step} of ${this.steps}`);
    show('loss', loss.toFixed(3));
    show('speed', this.#speed(step));
    this.#draw();
  }

  finish(outcomes: readonly Outcome[]): void {
    const [{ accuracy, losses, weights }] = outcomes as [Outcome];
    const same = outcomes.every((outcome) => outcome.weights.every((weight, i) => Object.is(weight, weights[i])));
    show('accuracy', `${(100 * accuracy).toFixed(1)} %`);
    const seconds = (performance.now() - this.#begin) / 1000;
    const who = this.replicas === 1 ? '1 replica' : `${this.replicas} replicas`;
    show(
      'summary',
      `${who} trained ${losses.length} steps in ${seconds.toFixed(1)} s, ${this.#speed(losses.length)} images/s; ` +
        `loss ${(losses[0] as number).toFixed(3)} to ${(losses.at(-1) as number).toFixed(3)}` +
        `${this.replicas > 1 ? `; their weights are ${same ? 'the same bits' : 'NOT the same'}` : ''}.`,
    );
  }

  #speed(steps: number): string {
    return ((1000 * steps * this.batchSize) / (performance.now() - this.#begin)).toFixed(0);
  }

  #draw(): void {
    const top = Math.max(2.5, ...this.#losses);
    const points = this.#losses.map((loss, i) => {
      const x = this.steps > 1 ? (640 * i) / (this.steps - 1) : 0;
      return `${x.toFixed(1)},${(196 - (192 * loss) / top).toFixed(1)}`;
    });
    element('line').setAttribute('points', points.join(' '));
    show('top', top.toFixed(1));
  }
}

const choices = Math.max(2, Math.min(MAX_REPLICAS, navigator.hardwareConcurrency));
for (let count = 1; count <= choices; count++) element<HTMLSelectElement>('replicas').add(new Option(String(count)));
element<HTMLSelectElement>('replicas').value = '2';

/** For whoever drives the page: what the last run gave, and strategies of this page. */
const driver = globalThis as unknown as { outcomes?: Outcome[]; strategyOf: typeof strategyOf };
driver.strategyOf = strategyOf;

element<HTMLFormElement>('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const button = element<HTMLButtonElement>('start');
  button.disabled = true;
  element('error').hidden = true;
  try {
    const replicas = value('replicas');
    // A whole number of digits for each.
    driver.outcomes = await train(
      replicas,
      value('steps'),
      Math.max(1, Math.round(value('batch') / replicas)) * replicas,
    );
  } catch (error) {
    show('error', (error as Error).message);
    element('error').hidden = false;
  } finally {
    button.disabled = false;
  }
});
