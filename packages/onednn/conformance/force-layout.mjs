// Variants of the suite: every float tensor of 3 to 5 dimensions lies in a layout of oneDNN's from the moment it is written, so that every kernel
// meets it, also those that a user's tensors never reach in that form.
//
//   blocked: blocks of 16 channels (8 without AVX-512) where the channels fill them, otherwise channels first
//   bf16:    channels last in bf16, and convolutions compute in bf16; the suite's own tolerance for 16 bits applies
import { blocked, channelsFirst, channelsLast, fillsBlocks } from '../dist/layout.js';

export function forceLayout(Backend, name) {
  const write = Backend.prototype.write;
  Backend.prototype.write = function (values, shape, dtype) {
    const dataId = write.call(this, values, shape, dtype);
    if (dtype !== 'float32' || shape.length < 3 || shape.length > 5 || shape.includes(0) || values === null)
      return dataId;
    const { runtime } = this;
    const storage = this.unresolved(dataId);
    const plain = channelsLast(runtime, shape);
    const current = layoutOf(name, runtime, shape);
    if (current === plain) return dataId;
    const forced = this.allocate(shape, 'float32', { current, plain });
    const target = this.unresolved(forced);
    runtime.reorder(storage.address, plain, target.address, current);
    target.refCount = storage.refCount;
    this.data.delete(forced.dataId);
    this.data.delete(dataId);
    this.data.set(dataId, target);
    globalThis.lockstepConformance.forced++;
    return dataId;
  };
  if (name !== 'bf16') return;
  Object.defineProperty(Backend.prototype, 'precision', { get: () => 'bf16' });
  // What jasmine_util's epsilon depends on: 1e-1 instead of 1e-3.
  Backend.prototype.floatPrecision = () => 16;
}

function layoutOf(name, runtime, shape) {
  if (name === 'bf16') return channelsLast(runtime, shape, 'bf16');
  return (shape.length > 3 && fillsBlocks(runtime, shape.at(-1)) ? blocked : channelsFirst)(runtime, shape);
}
