/** What every loop over several replicas' gradients needs: an element's place in each, its sum in table order, finiteness. */

export function at(table: usize, replica: i32, offset: usize): usize {
  return <usize>load<u32>(table + ((<usize>replica) << 2)) + offset;
}

export function sum4(table: usize, n: i32, offset: usize): v128 {
  let sum = v128.load(at(table, 0, offset));
  for (let replica = 1; replica < n; replica++) sum = f32x4.add(sum, v128.load(at(table, replica, offset)));
  return sum;
}

export function sum1(table: usize, n: i32, offset: usize): f32 {
  let sum = load<f32>(at(table, 0, offset));
  for (let replica = 1; replica < n; replica++) sum += load<f32>(at(table, replica, offset));
  return sum;
}

/** Lanes that are 0 while every value seen was finite: 0·x is NaN for infinities and NaN. */
export function isZero4(lanes: v128): i32 {
  return i32x4.all_true(f32x4.eq(lanes, f32x4.splat(0))) ? 1 : 0;
}

/** Whether every value seen was finite; `lanes` and `rest` have 0·value of each added up. */
export function allZero(lanes: v128, rest: f32): i32 {
  return isZero4(lanes) & <i32>(rest === 0);
}

/** Parameter `index` of an update, an f32. */
export function number(numbers: usize, index: i32): f32 {
  return load<f32>(numbers + ((<usize>index) << 2));
}

/** The same in all lanes. */
export function numbers4(numbers: usize, index: i32): v128 {
  return f32x4.splat(number(numbers, index));
}

/** Address of slot `index`. */
export function slotAt(slots: usize, index: i32): usize {
  return <usize>load<u32>(slots + ((<usize>index) << 2));
}
