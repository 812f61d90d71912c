/**
 * For tests: a GPU that the CPU computes, SwiftShader as Debian's Chromium brings it, offered as two devices. Imported before anything
 * asks for GPUs; a machine that has GPUs of its own, and a driver that was chosen already, keep them.
 */
import { existsSync } from 'node:fs';
import { probe } from '../adapters.js';
import { LOGICAL_VARIABLE, SOFTWARE_VARIABLE } from '../switches.js';

/** Debian's chromium-common. */
export const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json';
const DRIVER_VARIABLE = 'VK_ICD_FILENAMES';

process.env[SOFTWARE_VARIABLE] ??= '1';
process.env[LOGICAL_VARIABLE] ??= '2';
if (existsSync(SWIFTSHADER)) process.env[DRIVER_VARIABLE] ??= SWIFTSHADER;

/** Why no test can have a GPU here; '' if it can. */
export function whyNoGpu(): string {
  const { adapters, problem } = probe();
  if (problem !== null) return problem;
  if (adapters.length > 0) return '';
  return existsSync(SWIFTSHADER) ? 'Dawn finds no adapter (libvulkan1?)' : `no GPU, and no ${SWIFTSHADER}`;
}
