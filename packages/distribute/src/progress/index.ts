/** @lockstep/distribute/progress: bars and lines for terminals and pipes. It loads no TensorFlow.js. */
export { barLine, type Figure, wrapText } from './layout.js';
export {
  createProgress,
  duration,
  fitText,
  type Moment,
  type Progress,
  type ProgressOptions,
  RateMeter,
} from './progress.js';
export { type ColorMode, type OutputStream, type ProgressMode, progressStyle, useColor } from './style.js';
export { type ProgressStream, standardError } from './terminal.js';
