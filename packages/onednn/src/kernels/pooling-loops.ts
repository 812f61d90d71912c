/**
 * Pooling of a few elements in a loop: TensorFlow.js' own formulas, for tensors in row-major order that are so small that
 * starting a primitive takes longer. Which pixels lie under each window is worked out once for a geometry.
 */

/** Window i covers the input's pixels positions[starts[i]] to positions[starts[i + 1] − 1]; each pixel has `channels` elements. */
export interface Windows {
  readonly channels: number;
  readonly starts: Int32Array;
  readonly positions: Int32Array;
}

/**
 * Windows of a pooling over any number of axes.
 * @param inShape [batch, …space, channels]; @param outSpace the output's sizes along the axes of space.
 */
export function windowsOf(
  inShape: readonly number[],
  outSpace: readonly number[],
  kernel: readonly number[],
  strides: readonly number[],
  padBegin: readonly number[],
): Windows {
  const space = inShape.slice(1, -1);
  const starts: number[] = [];
  const positions: number[] = [];
  /** Pixels under the window that begins at `begin`, along `axis` and the axes after it. */
  const cover = (begin: readonly number[], axis: number, before: number): void => {
    if (axis === space.length) {
      positions.push(before);
      return;
    }
    const [first, size] = [begin[axis] as number, space[axis] as number];
    const end = Math.min(size, first + (kernel[axis] as number));
    for (let i = Math.max(0, first); i < end; i++) cover(begin, axis + 1, before * size + i);
  };
  const place = (begin: readonly number[], example: number): void => {
    const axis = begin.length;
    if (axis === space.length) {
      starts.push(positions.length);
      cover(begin, 0, example);
      return;
    }
    for (let i = 0; i < (outSpace[axis] as number); i++) {
      place([...begin, i * (strides[axis] as number) - (padBegin[axis] as number)], example);
    }
  };
  for (let example = 0; example < (inShape[0] as number); example++) place([], example);
  starts.push(positions.length);
  return {
    channels: inShape.at(-1) as number,
    starts: Int32Array.from(starts),
    positions: Int32Array.from(positions),
  };
}

/** y = the maximum of each window, −∞ where nothing in it is a number, as on `cpu`. */
export function maxPool(x: Float32Array, y: Float32Array, { channels, starts, positions }: Windows): void {
  let to = 0;
  for (let window = 0; window < starts.length - 1; window++) {
    const [begin, end] = [starts[window] as number, starts[window + 1] as number];
    for (let c = 0; c < channels; c++) {
      let maximum = Number.NEGATIVE_INFINITY;
      for (let i = begin; i < end; i++) {
        const value = x[(positions[i] as number) * channels + c] as number;
        if (value > maximum) maximum = value;
      }
      y[to++] = maximum;
    }
  }
}

/** y = the mean of each window's elements, padding left out. */
export function avgPool(x: Float32Array, y: Float32Array, { channels, starts, positions }: Windows): void {
  let to = 0;
  for (let window = 0; window < starts.length - 1; window++) {
    const [begin, end] = [starts[window] as number, starts[window + 1] as number];
    for (let c = 0; c < channels; c++) {
      let sum = 0;
      for (let i = begin; i < end; i++) sum += x[(positions[i] as number) * channels + c] as number;
      y[to++] = sum / (end - begin);
    }
  }
}

/** dx = dy where the window's first maximum was, added up over windows. */
export function maxPoolGrad(
  dy: Float32Array,
  x: Float32Array,
  dx: Float32Array,
  { channels, starts, positions }: Windows,
): void {
  dx.fill(0);
  let from = 0;
  for (let window = 0; window < starts.length - 1; window++) {
    const [begin, end] = [starts[window] as number, starts[window + 1] as number];
    for (let c = 0; c < channels; c++) {
      let maximum = Number.NEGATIVE_INFINITY;
      let found = -1;
      for (let i = begin; i < end; i++) {
        const at = (positions[i] as number) * channels + c;
        const value = x[at] as number;
        if (value > maximum) {
          maximum = value;
          found = at;
        }
      }
      if (found >= 0) dx[found] = (dx[found] as number) + (dy[from] as number);
      from++;
    }
  }
}
