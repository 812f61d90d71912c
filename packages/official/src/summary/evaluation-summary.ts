/**
 * An evaluation's details as event files have them: JSON for `lockstep board`, and pictures for TensorBoard. `names` are those of the labels
 * that are mentioned, where the data set has names.
 *
 *     evaluation/confusion        text   {"classes", "images", "names"?, "matrix": [label][prediction]}; beyond 50 classes instead of
 *                                        "matrix" "pairs": [[label, prediction, how often], …], the 20 most frequent mistakes
 *     evaluation/confusion_image  image  a square for each cell, a row for each label, dark where much of the row is; up to 50 classes
 *     evaluation/samples          text   {"columns", "tile": [height, width], "names"?, "items": [{"label", "prediction", "probability"}, …]}
 *     evaluation/samples_image    image  those, tile by tile, row by row
 */
import type { EvaluationDetails, SampleImage } from '../utils/logs/run-observer.js';
import type { Event } from './event.js';
import { encodePng, type Picture } from './png.js';

const MOST_CLASSES = 50;
const PAIRS = 20;
const COLUMNS = 4;
const CELL_PIXELS = 8;

export function evaluationSummary(details: EvaluationDetails): Required<Pick<Event, 'texts' | 'images'>> {
  const { classes, confusion, samples } = details;
  const images = confusion.reduce((sum, count) => sum + count, 0);
  const isSmall = classes <= MOST_CLASSES;
  const matrix = isSmall ? rowsOf(details) : [];
  const pairs = isSmall ? [] : mistakesOf(details);
  const what = isSmall ? { matrix } : { pairs };
  const labels = isSmall ? [...matrix.keys()] : pairs.flatMap((pair) => pair.slice(0, 2));
  const items = samples.map(({ label, prediction, probability }) => {
    return { label, prediction, probability: Number(probability.toFixed(4)) };
  });
  const tile = samples[0]?.shape.slice(0, 2);
  const itsLabels = items.flatMap(({ label, prediction }) => [label, prediction]);
  return {
    texts: {
      'evaluation/confusion': JSON.stringify({ classes, images, ...namesOf(details, labels), ...what }),
      ...(tile && {
        'evaluation/samples': JSON.stringify({ columns: COLUMNS, tile, ...namesOf(details, itsLabels), items }),
      }),
    },
    images: {
      ...(isSmall && { 'evaluation/confusion_image': confusionPicture(matrix) }),
      ...(tile && { 'evaluation/samples_image': samplesPicture(details) }),
    },
  };
}

function rowsOf({ classes, confusion }: EvaluationDetails): number[][] {
  return Array.from({ length: classes }, (_, label) =>
    Array.from(confusion.subarray(label * classes, (label + 1) * classes)),
  );
}

/** The most frequent first; of equally many the lowest labels. */
function mistakesOf({ classes, confusion }: EvaluationDetails): [label: number, prediction: number, count: number][] {
  const mistakes: [number, number, number][] = [];
  for (const [place, count] of confusion.entries()) {
    const [label, prediction] = [Math.floor(place / classes), place % classes];
    if (count > 0 && label !== prediction) mistakes.push([label, prediction, count]);
  }
  return mistakes.sort((a, b) => b[2] - a[2]).slice(0, PAIRS);
}

function namesOf({ names }: EvaluationDetails, labels: readonly number[]): { names?: Record<string, string> } {
  if (!names) return {};
  const known = [...new Set(labels)].sort((a, b) => a - b).filter((label) => names[label] !== undefined);
  return { names: Object.fromEntries(known.map((label) => [label, names[label] as string])) };
}

function confusionPicture(matrix: readonly (readonly number[])[]): Picture {
  const side = matrix.length * CELL_PIXELS;
  const pixels = new Uint8Array(side * side);
  for (const [label, row] of matrix.entries()) {
    const sum = row.reduce((total, count) => total + count, 0) || 1;
    for (const [prediction, count] of row.entries()) {
      const grey = Math.round(255 * (1 - count / sum));
      for (let y = 0; y < CELL_PIXELS; y++) {
        const begin = (label * CELL_PIXELS + y) * side + prediction * CELL_PIXELS;
        pixels.fill(grey, begin, begin + CELL_PIXELS);
      }
    }
  }
  return encodePng(pixels, [side, side, 1]);
}

function samplesPicture({ samples }: EvaluationDetails): Picture {
  const [height, width, channels] = (samples[0] as SampleImage).shape;
  const rows = Math.ceil(samples.length / COLUMNS);
  const line = COLUMNS * width * channels;
  const pixels = new Uint8Array(rows * height * line);
  for (const [i, sample] of samples.entries()) {
    const corner = Math.floor(i / COLUMNS) * height * line + (i % COLUMNS) * width * channels;
    for (let y = 0; y < height; y++) {
      pixels.set(sample.pixels.subarray(y * width * channels, (y + 1) * width * channels), corner + y * line);
    }
  }
  return encodePng(pixels, [rows * height, COLUMNS * width, channels]);
}
