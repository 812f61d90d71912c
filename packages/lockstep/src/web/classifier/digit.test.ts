/** Ink becomes a digit as MNIST has them: in a box of 20 pixels, its centre of mass in the middle, whatever its size and place. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { prepareDigits } from '@lockstep/official/data/digits';
import { inkOf, normalizedDigit, type Surface } from './digit.js';

const SIDE = 32;

/** A surface with a rectangle of ink. */
function rectangle(size: number, left: number, top: number, width: number, height: number): Surface {
  const ink = new Uint8ClampedArray(size * size);
  for (let y = top; y < top + height; y++) ink.fill(255, y * size + left, y * size + left + width);
  return { width: size, height: size, ink };
}

/** Sides of what is there, and its centre of mass. */
function measure(pixels: Float32Array) {
  let [left, right, top, bottom, mass, x, y] = [SIDE, -1, SIDE, -1, 0, 0, 0];
  for (let i = 0; i < SIDE * SIDE; i++) {
    const value = pixels[3 * i] as number;
    assert.deepEqual([pixels[3 * i + 1], pixels[3 * i + 2]], [value, value]);
    if (value === 0) continue;
    const [column, row] = [i % SIDE, Math.floor(i / SIDE)];
    [left, right, top, bottom] = [
      Math.min(left, column),
      Math.max(right, column),
      Math.min(top, row),
      Math.max(bottom, row),
    ];
    mass += value;
    x += value * (column + 0.5);
    y += value * (row + 0.5);
  }
  return { width: right - left + 1, height: bottom - top + 1, x: x / mass, y: y / mass, mass };
}

describe('a digit from ink', () => {
  it('fills a box of 20 pixels with its longer side, in the middle, from anywhere', () => {
    for (const [size, left, top, width, height] of [
      [308, 10, 10, 60, 200],
      [308, 200, 250, 100, 40],
      [400, 0, 0, 400, 400],
      [50, 30, 20, 4, 9],
      [20, 3, 3, 1, 1],
    ] as const) {
      const found = measure(normalizedDigit(rectangle(size, left, top, width, height)) as Float32Array);
      assert.equal(Math.max(found.width, found.height), 20);
      const shorter = (20 * Math.min(width, height)) / Math.max(width, height);
      assert.ok(Math.abs(Math.min(found.width, found.height) - shorter) <= 1, `${found.width} × ${found.height}`);
      assert.ok(Math.abs(found.x - 16.5) <= 0.5 && Math.abs(found.y - 16.5) <= 0.5, `${found.x}, ${found.y}`);
      // As dark as it was: 255 everywhere within.
      assert.ok(Math.abs(found.mass / (255 * found.width * found.height) - 1) < 0.02);
    }
  });

  it('is in its middle by weight, not by its sides', () => {
    const surface = rectangle(100, 20, 20, 60, 10);
    for (let y = 30; y < 80; y++) surface.ink.fill(255, y * 100 + 70, y * 100 + 80);
    const { x, y } = measure(normalizedDigit(surface) as Float32Array);
    assert.ok(Math.abs(x - 16.5) <= 0.5 && Math.abs(y - 16.5) <= 0.5, `${x}, ${y}`);
  });

  it('is not there where nothing is', () => {
    assert.equal(normalizedDigit(rectangle(40, 0, 0, 0, 0)), null);
  });

  it('leaves MNIST’s own digits about where they are', () => {
    const folder = mkdtempSync(join(tmpdir(), 'digit-'));
    try {
      prepareDigits(folder);
      const records = readFileSync(join(folder, 'cifar-10-batches-bin', 'test_batch.bin'));
      let [gap, shifted] = [0, 0];
      for (let i = 0; i < 50; i++) {
        const grey = records.subarray(i * 3073 + 1, i * 3073 + 1025);
        const again = normalizedDigit({ width: SIDE, height: SIDE, ink: Uint8ClampedArray.from(grey) }) as Float32Array;
        for (let p = 0; p < 1024; p++) {
          gap += Math.abs((again[3 * p] as number) - (grey[p] as number));
          shifted += Math.abs((grey[p + 1] ?? 0) - (grey[p] as number));
        }
      }
      // They have this size and place already: a box of 20 pixels around their centres of mass.
      assert.ok(gap < 0.1 * shifted, `${gap / shifted}`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('ink in a photograph', () => {
  it('is what differs from the paper, dark on bright or bright on dark', () => {
    for (const [paper, pen] of [
      [220, 40],
      [30, 200],
    ] as const) {
      const pixels = new Uint8ClampedArray(40 * 40 * 4).fill(255);
      for (let i = 0; i < 1600; i++) {
        const isInk = i % 40 >= 15 && i % 40 < 20 && i >= 400 && i < 1200;
        // Grain of the paper.
        pixels.fill((isInk ? pen : paper) + (i % 7), 4 * i, 4 * i + 3);
      }
      const { ink } = inkOf(pixels, 40, 40);
      for (let i = 0; i < 1600; i++) {
        const isInk = i % 40 >= 15 && i % 40 < 20 && i >= 400 && i < 1200;
        assert.ok(isInk ? (ink[i] as number) > 230 : ink[i] === 0, `${i}: ${ink[i]}`);
      }
    }
  });
});
