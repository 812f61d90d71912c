/**
 * ImageNet's preprocessing: pixels against plain loops in f64 written from upstream's description, and boxes against the distribution
 * that follows from it, added up over all shapes and heights.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Philox } from '../utils/random/philox.js';
import type { Box, DecodedImage, Size } from './image.js';
import {
  aspectPreservingSize,
  boxView,
  CHANNEL_MEANS,
  centralView,
  sampleDistortedBox,
  type View,
} from './imagenet-preprocessing.js';

type Image = number[][][];

function randomImage({ height, width }: Size): Image {
  const random = new Philox(11, [height, width]);
  return Array.from({ length: height }, () =>
    Array.from({ length: width }, () => [0, 1, 2].map(() => random.integer(256))),
  );
}

/** TensorFlow 1's resize_bilinear with align_corners=False. */
function resized(image: Image, height: number, width: number): Image {
  const at = (size: number, count: number, i: number) => {
    const place = (i * size) / count;
    const low = Math.floor(place);
    return { low, high: Math.min(low + 1, size - 1), part: place - low };
  };
  return Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => {
      const row = at(image.length, height, y);
      const column = at(image[0]!.length, width, x);
      return [0, 1, 2].map((c) => {
        const along = (line: number) =>
          image[line]![column.low]![c]! * (1 - column.part) + image[line]![column.high]![c]! * column.part;
        return along(row.low) * (1 - row.part) + along(row.high) * row.part;
      });
    }),
  );
}

const crop = (image: Image, { top, left, height, width }: Box): Image =>
  image.slice(top, top + height).map((row) => row.slice(left, left + width));

/** What the decoder gives for a view. */
function decoded(image: Image, { box }: View): DecodedImage {
  return { height: box.height, width: box.width, pixels: Uint8Array.from(crop(image, box).flat(2)) };
}

function check(image: Image, view: View, expected: Image): void {
  const values = expected.flat(2).map((value, i) => value - CHANNEL_MEANS[i % 3]!);
  const target = new Float32Array(values.length + 2).fill(7);
  view.write(decoded(image, view), target, 1);
  assert.deepEqual([target[0], target.at(-1)], [7, 7]);
  for (const [i, value] of values.entries())
    assert.ok(Math.abs(target[i + 1]! - value) < 2e-3, `element ${i}: ${target[i + 1]} instead of ${value}`);
}

describe('pixels', () => {
  it('a box is cropped, mirrored, resized by TensorFlow 1’s rule, and the means subtracted', () => {
    const image = randomImage({ height: 41, width: 57 });
    const boxes = [
      { top: 0, left: 0, height: 41, width: 57 },
      { top: 3, left: 20, height: 30, width: 37 },
      { top: 40, left: 56, height: 1, width: 1 },
      { top: 10, left: 1, height: 7, width: 2 },
      { top: 5, left: 5, height: 16, width: 16 },
    ];
    for (const box of boxes) {
      for (const flip of [false, true]) {
        const part = crop(image, box);
        const turned = flip ? part.map((row) => row.toReversed()) : part;
        check(image, boxView(box, { height: 16, width: 16 }, flip), resized(turned, 16, 16));
      }
    }
  });

  it('evaluation takes the centre of the resized image, and decodes no more than that', () => {
    for (const size of [
      { height: 41, width: 57 },
      { height: 90, width: 33 },
      { height: 20, width: 20 },
      { height: 300, width: 37 },
    ]) {
      const image = randomImage(size);
      const ratio = 37 / Math.min(size.height, size.width);
      const [height, width] = [Math.floor(size.height * ratio + 1e-4), Math.floor(size.width * ratio + 1e-4)];
      const view = centralView(size, { height: 32, width: 32 });
      const centre = { top: Math.floor((height - 32) / 2), left: Math.floor((width - 32) / 2), height: 32, width: 32 };
      check(image, view, crop(resized(image, height, width), centre));
    }
    const { box } = centralView({ height: 100, width: 1000 }, { height: 224, width: 224 });
    assert.ok(box.width < 100 && box.height < 100, `${box.width} × ${box.height} of 1000 × 100`);
  });

  it('sizes are cut off in 32 bits, as upstream’s', () => {
    assert.deepEqual(aspectPreservingSize({ height: 512, width: 1024 }, 256), { height: 256, width: 512 });
    assert.deepEqual(aspectPreservingSize({ height: 333, width: 500 }, 256), { height: 256, width: 384 });
    const sides = Array.from({ length: 2000 }, (_, i) => i + 1);
    for (const side of sides) {
      const { height } = aspectPreservingSize({ height: side, width: 3000 }, 256);
      assert.ok(height === 256 || height === 255, `${side} becomes ${height}`);
    }
  });
});

describe('random boxes', () => {
  const size = { height: 300, width: 400 };

  it('have the area, the shape and the place of the published distribution', () => {
    // Every shape in 2,000 steps, every height of a shape as likely as another, and of what results only what covers a tenth.
    const cumulative = { area: new Float64Array(101), aspect: new Float64Array(101) };
    const image = size.height * size.width;
    let all = 0;
    for (let step = 0; step < 2000; step++) {
      const aspect = 0.75 + (0.58 * (step + 0.5)) / 2000;
      const heights: number[] = [];
      for (let height = 1; height <= size.height; height++) {
        const width = Math.round(height * aspect);
        if (height >= Math.round(Math.sqrt((0.05 * image) / aspect)) && width <= size.width) heights.push(height);
      }
      for (const height of heights) {
        const width = Math.round(height * aspect);
        if (height * width < 0.1 * image) continue;
        const weight = 1 / heights.length;
        all += weight;
        cumulative.area[Math.ceil((100 * height * width) / image)]! += weight;
        cumulative.aspect[Math.ceil((100 * (width / height - 0.7)) / 0.7)]! += weight;
      }
    }
    const draws = 40_000;
    const found = { area: new Float64Array(101), aspect: new Float64Array(101) };
    let places = 0;
    let roomy = 0;
    const random = new Philox(5);
    for (let i = 0; i < draws; i++) {
      const box = sampleDistortedBox(size, [], random);
      assert.ok(box.top >= 0 && box.left >= 0 && box.top + box.height <= 300 && box.left + box.width <= 400);
      found.area[Math.ceil((100 * box.height * box.width) / image)]!++;
      found.aspect[Math.ceil((100 * (box.width / box.height - 0.7)) / 0.7)]!++;
      if (box.width < 400) {
        places += (box.left + 0.5) / (400 - box.width);
        roomy++;
      }
    }
    // Kolmogorov and Smirnov: 1.95 / √n is passed once in a thousand.
    for (const kind of ['area', 'aspect'] as const) {
      let [expected, actual] = [0, 0];
      for (let i = 0; i <= 100; i++) {
        expected += cumulative[kind][i]! / all;
        actual += found[kind][i]! / draws;
        assert.ok(
          Math.abs(expected - actual) < 1.95 / Math.sqrt(draws),
          `${kind} ${i}: ${actual} instead of ${expected}`,
        );
      }
    }
    assert.ok(Math.abs(places / roomy - 0.5) < 4 / Math.sqrt(12 * roomy), `boxes lie at ${places / roomy}`);
  });

  it('cover a tenth of one of the objects, and are drawn again until they do', () => {
    const objects = [
      { top: 0.9, left: 0.95, bottom: 1, right: 1 },
      { top: 0, left: 0, bottom: 0.05, right: 0.05 },
    ];
    const random = new Philox(6);
    const corners = new Set<string>();
    for (let i = 0; i < 500; i++) {
      const { top, left, height, width } = sampleDistortedBox(size, objects, random);
      const covered = objects.map((object) => {
        const rows = Math.min(object.bottom * 300, top + height) - Math.max(object.top * 300, top);
        const columns = Math.min(object.right * 400, left + width) - Math.max(object.left * 400, left);
        const area = (object.bottom - object.top) * 300 * (object.right - object.left) * 400;
        return (Math.max(0, rows) * Math.max(0, columns)) / area;
      });
      assert.ok(Math.max(...covered) >= 0.1 - 1e-9, `${covered}`);
      if (width < 400 || height < 300) corners.add(covered[0]! >= 0.1 ? 'right' : 'left');
    }
    assert.deepEqual([...corners].sort(), ['left', 'right']);
  });

  it('the whole image, where no box is possible', () => {
    for (const thin of [
      { height: 1, width: 1000 },
      { height: 1000, width: 2 },
    ])
      assert.deepEqual(sampleDistortedBox(thin, [], new Philox(1)), { top: 0, left: 0, ...thin });
    assert.deepEqual(sampleDistortedBox({ height: 1, width: 1 }, [], new Philox(1)), {
      top: 0,
      left: 0,
      height: 1,
      width: 1,
    });
  });
});
