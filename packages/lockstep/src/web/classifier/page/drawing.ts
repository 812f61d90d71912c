/** The surface that digits are drawn on, with a finger, a pen, a mouse, or the arrow keys while the space bar holds the pen down. */
import type { Surface } from '../digit.js';

/** Of the side of the surface: as thick as MNIST's writers wrote. */
const PEN = 1 / 13;
const STEP = 1 / 28;

interface Point {
  readonly x: number;
  readonly y: number;
}

export class Drawing {
  readonly #surface: CanvasRenderingContext2D;
  /** From where the pen came down to where it was lifted. */
  #strokes: Point[][] = [];
  #stroke: Point[] | null = null;
  #cursor: Point;
  #isPenDown = false;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly onChange: () => void,
  ) {
    this.#surface = canvas.getContext('2d', { willReadFrequently: true }) as CanvasRenderingContext2D;
    this.#cursor = { x: canvas.width / 2, y: canvas.height / 4 };
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.#lineTo(this.#placeOf(event));
    });
    canvas.addEventListener('pointermove', (event) => {
      if (this.#stroke === null) return;
      // A fast hand makes more points than there are frames.
      for (const one of event.getCoalescedEvents?.() ?? [event]) this.#lineTo(this.#placeOf(one));
      this.#lineTo(this.#placeOf(event));
    });
    for (const name of ['pointerup', 'pointercancel'] as const) {
      canvas.addEventListener(name, () => {
        this.#stroke = null;
      });
    }
    canvas.addEventListener('keydown', (event) => this.#press(event));
    canvas.addEventListener('keyup', (event) => {
      if (event.key !== ' ') return;
      this.#isPenDown = false;
      this.#stroke = null;
    });
  }

  /** Without telling. */
  clear(): void {
    this.#strokes = [];
    this.#stroke = null;
    this.#cursor = { x: this.canvas.width / 2, y: this.canvas.height / 4 };
    this.#draw();
  }

  /** What was drawn: its opacity, whatever its colour. */
  ink(): Surface {
    const { width, height } = this.canvas;
    const { data } = this.#surface.getImageData(0, 0, width, height);
    return {
      width,
      height,
      ink: Uint8ClampedArray.from({ length: width * height }, (_, i) => data[4 * i + 3] as number),
    };
  }

  #placeOf({ clientX, clientY }: PointerEvent): Point {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((clientX - box.left) / box.width) * this.canvas.width,
      y: ((clientY - box.top) / box.height) * this.canvas.height,
    };
  }

  #lineTo(point: Point): void {
    if (this.#stroke === null) {
      this.#stroke = [];
      this.#strokes.push(this.#stroke);
    }
    this.#stroke.push(point);
    this.#cursor = point;
    this.#draw();
    this.onChange();
  }

  /** All of it, so that a stroke is one line and not many that overlap. */
  #draw(): void {
    const surface = this.#surface;
    const { width, height } = this.canvas;
    surface.clearRect(0, 0, width, height);
    surface.strokeStyle = getComputedStyle(this.canvas).color;
    surface.lineWidth = width * PEN;
    surface.lineCap = 'round';
    surface.lineJoin = 'round';
    for (const [first, ...rest] of this.#strokes) {
      if (!first) continue;
      surface.beginPath();
      surface.moveTo(first.x, first.y);
      for (const { x, y } of rest.length > 0 ? rest : [first]) surface.lineTo(x, y);
      surface.stroke();
    }
  }

  #press(event: KeyboardEvent): void {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === ' ') {
      if (!this.#isPenDown) this.#lineTo(this.#cursor);
      this.#isPenDown = true;
    } else if (direction === undefined) return;
    event.preventDefault();
    const [right = 0, down = 0] = direction ?? [];
    const { width, height } = this.canvas;
    const within = (value: number, size: number) => Math.min(size, Math.max(0, value));
    this.#cursor = {
      x: within(this.#cursor.x + right * width * STEP, width),
      y: within(this.#cursor.y + down * height * STEP, height),
    };
    if (this.#isPenDown) this.#lineTo(this.#cursor);
  }
}
