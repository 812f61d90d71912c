/**
 * A digit as MNIST has it, of ink anywhere on a surface (LeCun et al.: "size normalized to fit in a 20×20 box … and centered in a 28×28
 * image by computing the center of mass"), in the network's 32 × 32 with a margin of two. Pure arithmetic: the page and its test share it.
 */

const BOX = 20;
const SIDE = 32;
/** Where MNIST's centres of mass are: in the middle of the pixel that is right of the image's own, and below. */
const CENTRE = SIDE / 2 + 0.5;

export interface Surface {
  readonly width: number;
  readonly height: number;
  /** Row by row: 0 is paper, 255 is ink. */
  readonly ink: Uint8ClampedArray;
}

/** @returns 32 × 32 × 3, white on black, 0 … 255; null where there is no ink */
export function normalizedDigit(surface: Surface): Float32Array | null {
  const bounds = boundsOf(surface);
  if (bounds === null) return null;
  const { left, top, width, height } = bounds;
  const scale = BOX / Math.max(width, height);
  const columns = Math.max(1, Math.round(width * scale));
  const rows = Math.max(1, Math.round(height * scale));
  const small = new Float32Array(columns * rows);
  let [mass, massX, massY] = [0, 0, 0];
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const value = meanInk(surface, {
        left: left + (x * width) / columns,
        right: left + ((x + 1) * width) / columns,
        top: top + (y * height) / rows,
        bottom: top + ((y + 1) * height) / rows,
      });
      small[y * columns + x] = value;
      mass += value;
      massX += value * (x + 0.5);
      massY += value * (y + 0.5);
    }
  }
  const place = (centre: number, size: number) => Math.min(SIDE - size, Math.max(0, Math.round(CENTRE - centre)));
  const offsetX = place(massX / mass, columns);
  const offsetY = place(massY / mass, rows);
  const pixels = new Float32Array(SIDE * SIDE * 3);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const at = 3 * ((y + offsetY) * SIDE + x + offsetX);
      pixels.fill(Math.round(small[y * columns + x] as number), at, at + 3);
    }
  }
  return pixels;
}

/**
 * Ink in a photograph of something written: what differs from the paper, which is what most of the border is.
 * @param pixels red, green, blue, alpha
 */
export function inkOf(pixels: Uint8ClampedArray, width: number, height: number): Surface {
  const grey = new Uint8ClampedArray(width * height);
  for (let i = 0; i < grey.length; i++) {
    grey[i] =
      0.299 * (pixels[4 * i] as number) + 0.587 * (pixels[4 * i + 1] as number) + 0.114 * (pixels[4 * i + 2] as number);
  }
  const border = [...grey.subarray(0, width), ...grey.subarray(-width)];
  for (let y = 0; y < height; y++) border.push(grey[y * width] as number, grey[(y + 1) * width - 1] as number);
  const paper = border.sort((a, b) => a - b)[border.length >> 1] as number;
  const contrast = grey.map((value) => Math.abs(value - paper));
  const strongest = contrast.reduce((most, value) => Math.max(most, value), 0);
  // Shadows and grain of paper are fainter than half of the strongest ink.
  const ink = contrast.map((value) => (value < strongest * 0.4 ? 0 : (255 * value) / Math.max(1, strongest)));
  return { width, height, ink };
}

interface Bounds {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

function boundsOf({ width, height, ink }: Surface): Bounds | null {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (ink[y * width + x] === 0) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = y;
    }
  }
  return right < 0 ? null : { left, top, width: right - left + 1, height: bottom - top + 1 };
}

/** Of a rectangle with sides between pixels. */
function meanInk(
  { width, ink }: Surface,
  { left, right, top, bottom }: { left: number; right: number; top: number; bottom: number },
): number {
  let [sum, area] = [0, 0];
  for (let y = Math.floor(top); y < bottom; y++) {
    const down = Math.min(bottom, y + 1) - Math.max(top, y);
    for (let x = Math.floor(left); x < right; x++) {
      const part = down * (Math.min(right, x + 1) - Math.max(left, x));
      sum += part * (ink[y * width + x] as number);
      area += part;
    }
  }
  return sum / area;
}
