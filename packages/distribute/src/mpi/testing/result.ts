/**
 * For tests: what a rank found, handed to the test in a file (mpirun cuts and tags output every 2 KB, wherever that is); and a rank
 * that does one thing after another for a test, which spares the start of a job for each.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Names the folder; mpirun.ts sets it. */
export const RESULTS_VARIABLE = 'LOCKSTEP_TESTING_RESULTS';

/** Path of a rank's result. @param scene which of a job's scenes; 0 if there is one only. */
export function resultFile(folder: string, rank: number | string, scene = 0): string {
  return join(folder, `${rank}.${scene}.json`);
}

/** Once per rank and scene. Does nothing outside of a test. */
export function reportResult(value: unknown, scene = 0): void {
  const { [RESULTS_VARIABLE]: folder, OMPI_COMM_WORLD_RANK: rank } = process.env;
  if (!folder || rank === undefined) return;
  writeWhole(resultFile(folder, rank, scene), value);
}

/** Path of the order for a scene; what it holds is `null` if there are no more. (mpirun gives its standard input to one rank only.) */
export function orderFile(folder: string, scene: number): string {
  return join(folder, `order.${scene}.json`);
}

/** Puts a value where others look for it: whole, or not at all. */
export function writeWhole(file: string, value: unknown): void {
  writeFileSync(`${file}.tmp`, JSON.stringify(value));
  renameSync(`${file}.tmp`, file);
}

/** A rank that is asked for nothing ends: whoever should ask is gone. */
const IDLE_LIMIT_MS = 120_000;

/** In every rank of a SceneJob: plays what the test asks for, until it asks no more. A scene that throws ends the rank. */
export async function playScenes(play: (args: object) => Promise<unknown>): Promise<void> {
  const folder = process.env[RESULTS_VARIABLE] as string;
  for (let scene = 1; ; scene++) {
    const file = orderFile(folder, scene);
    const end = performance.now() + IDLE_LIMIT_MS;
    while (!existsSync(file)) {
      if (performance.now() > end) throw new Error(`No order for ${IDLE_LIMIT_MS / 1000} s.`);
      await sleep(5);
    }
    const args = JSON.parse(readFileSync(file, 'utf8')) as object | null;
    if (args === null) return;
    reportResult((await play(args)) ?? null, scene);
  }
}
