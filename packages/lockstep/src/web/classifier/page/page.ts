/** The page: what somebody drops, pastes, picks, photographs or draws, and the five likeliest classes of it. Nothing leaves the browser. */
import { normalizedDigit } from '../digit.js';
import { Camera } from './camera.js';
import { Drawing } from './drawing.js';
import { type Classifier, loadClassifier } from './model.js';
import { decode, pixelsOf, readsDigits, toImageData } from './pictures.js';

const LIKELIEST = 5;

function element<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

const status = element('status');
const results = element<HTMLOListElement>('results');
const seen = element<HTMLCanvasElement>('seen');
const preview = element<HTMLImageElement>('preview');

function say(text: string, isError = false): void {
  status.textContent = text;
  status.classList.toggle('error', isError);
}

/** Shows how likely the classes are, or that there is nothing. */
function show({ description }: Classifier, probabilities: Float32Array | null): void {
  const ranked = Array.from(probabilities ?? [], (probability, label) => ({ probability, label }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, LIKELIEST);
  results.replaceChildren(
    ...ranked.map(({ probability, label }) => {
      const row = document.createElement('li');
      row.dataset.class = String(label);
      row.dataset.probability = String(probability);
      const name = document.createElement('span');
      name.className = 'name';
      name.textContent = description.labels?.[label] ?? `class ${label}`;
      const percent = document.createElement('span');
      percent.className = 'percent';
      percent.textContent = `${(100 * probability).toFixed(1)} %`;
      const bar = document.createElement('span');
      bar.className = 'bar';
      bar.append(document.createElement('span'));
      (bar.firstElementChild as HTMLElement).style.width = `${100 * probability}%`;
      row.append(name, percent, bar);
      return row;
    }),
  );
  results.classList.toggle('empty', ranked.length === 0);
}

class Page {
  /** Pictures may come faster than answers: the newest counts. */
  #wanted: Float32Array | null = null;
  /** Counts what there was to see nothing of: an answer that comes after that is nobody's any more. */
  #clears = 0;
  #isBusy = false;
  #shown: string | null = null;
  onPicture = () => {};

  constructor(private readonly classifier: Classifier) {}

  async take(file: Blob, name: string): Promise<void> {
    try {
      const picture = await decode(file);
      this.#preview(file, name);
      this.onPicture();
      this.classify(pixelsOf(picture, this.classifier.description));
      picture.close();
    } catch {
      say(`${name} is no picture that this browser can read.`, true);
    }
  }

  /** @param pixels null: nothing to see */
  classify(pixels: Float32Array | null): void {
    this.#wanted = pixels;
    if (pixels === null) {
      this.#clears++;
      show(this.classifier, null);
      seen.getContext('2d')?.clearRect(0, 0, seen.width, seen.height);
      say('Waiting for a picture.');
    } else if (!this.#isBusy) void this.#run();
  }

  hidePreview(): void {
    preview.hidden = true;
  }

  async #run(): Promise<void> {
    this.#isBusy = true;
    try {
      while (this.#wanted !== null) {
        const pixels = this.#wanted;
        this.#wanted = null;
        const clears = this.#clears;
        const { probabilities, ms } = await this.classifier.classify(pixels);
        if (clears !== this.#clears) continue;
        seen.getContext('2d')?.putImageData(toImageData(pixels, this.classifier.description.input.shape), 0, 0);
        show(this.classifier, probabilities);
        say(`Computed in ${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`);
        status.dataset.done = String(Number(status.dataset.done ?? 0) + 1);
      }
    } catch (error) {
      say(`The model could not compute this: ${(error as Error).message}`, true);
    } finally {
      this.#isBusy = false;
    }
  }

  #preview(file: Blob, name: string): void {
    if (this.#shown !== null) URL.revokeObjectURL(this.#shown);
    this.#shown = URL.createObjectURL(file);
    preview.src = this.#shown;
    preview.alt = name;
    preview.hidden = false;
  }
}

/** What the file says of the model. */
function describe({ description, backend, bytes }: Classifier): void {
  const { model, dataset, output, input, quantization, globalStep, labels } = description;
  const [height, width] = input.shape;
  element('title').textContent = readsDigits(description) ? 'Which digit is it?' : 'What is in the picture?';
  const facts = [
    model,
    ...(dataset && !readsDigits(description) ? [dataset] : []),
    `${output.classes} classes`,
    `${width} × ${height} pixels`,
    `${globalStep.toLocaleString('en-US')} steps`,
    ...(bytes > 0 ? [`${(bytes / 1e6).toFixed(bytes < 1e6 ? 2 : 1)} MB`] : []),
    ...(quantization === 'none' ? [] : [quantization]),
    backend === 'webgl' ? 'on the graphics processor (WebGL)' : 'on the processor',
  ];
  element('facts').textContent = facts.join(' · ');
  document.title = `${element('title').textContent} ${model}`;
  if (labels === null) element('facts').append(' · names of the classes are not known');
  [seen.height, seen.width] = [height, width];
  element('size').textContent = `${width} × ${height}`;
}

function connect(page: Page, classifier: Classifier): void {
  const isDigits = readsDigits(classifier.description);
  const pad = element<HTMLCanvasElement>('pad');
  const drawing = new Drawing(pad, () => {
    page.hidePreview();
    page.classify(normalizedDigit(drawing.ink()));
  });
  // One of the two is what the answer is about.
  page.onPicture = () => drawing.clear();
  element('draw').hidden = !isDigits;
  element('clear').addEventListener('click', () => {
    drawing.clear();
    page.hidePreview();
    page.classify(null);
    pad.focus();
  });
  const picker = element<HTMLInputElement>('picker');
  element('pick').addEventListener('click', () => picker.click());
  picker.addEventListener('change', () => {
    const [file] = picker.files ?? [];
    if (file) void page.take(file, file.name);
    // The same one may be chosen again.
    picker.value = '';
  });
  const camera = new Camera(element<HTMLVideoElement>('video'), element('viewfinder'));
  element('camera').hidden = !camera.isThere;
  element('camera').addEventListener('click', () => {
    camera.open().catch((error: Error) => say(`The camera cannot be used: ${error.message}`, true));
  });
  element('close').addEventListener('click', () => camera.close());
  element('shoot').addEventListener('click', () => {
    void camera.shoot().then((picture) => {
      camera.close();
      if (picture) void page.take(picture, 'photograph');
    });
  });
  const zone = document.body;
  for (const name of ['dragenter', 'dragover'] as const) {
    zone.addEventListener(name, (event) => {
      event.preventDefault();
      zone.classList.add('over');
    });
  }
  zone.addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) zone.classList.remove('over');
  });
  zone.addEventListener('drop', (event) => {
    event.preventDefault();
    zone.classList.remove('over');
    takeFrom(event.dataTransfer, page);
  });
  document.addEventListener('paste', (event) => takeFrom(event.clipboardData, page));
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') camera.close();
  });
}

function takeFrom(data: DataTransfer | null, page: Page): void {
  const [file] = data?.files ?? [];
  if (file) void page.take(file, file.name);
  else say('That is no picture file.', true);
}

async function start(): Promise<void> {
  const wanted = new URLSearchParams(location.search).get('backend');
  const classifier = await loadClassifier(wanted, (part) => say(`Loading the model: ${Math.round(100 * part)} %`));
  describe(classifier);
  const page = new Page(classifier);
  connect(page, classifier);
  page.classify(null);
  document.body.dataset.ready = classifier.backend;
}

start().catch((error: Error) => say(`The model cannot be used: ${error.message}`, true));
