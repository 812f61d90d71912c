/** The environment variables of this package, read where they count, so that a thread reads what its process was given. */

/** `1`: GPUs that the CPU computes count as well: for tests, where there is no other. */
export const SOFTWARE_VARIABLE = 'LOCKSTEP_SOFTWARE_GPU';
/** Devices that each adapter is offered as, 1 unless given: for tests of several GPUs on one. */
export const LOGICAL_VARIABLE = 'LOCKSTEP_LOGICAL_GPUS';

export interface Switches {
  readonly software: boolean;
  readonly logical: number;
}

/** @throws RangeError naming the variable and its value */
export function readSwitches(environment: Readonly<Record<string, string | undefined>> = process.env): Switches {
  const software = environment[SOFTWARE_VARIABLE] ?? '0';
  if (!['', '0', '1'].includes(software)) {
    throw new RangeError(
      `${SOFTWARE_VARIABLE} is '${software}'.\nhelp: 1 lets GPUs count that the CPU computes; 0, or nothing, does not.`,
    );
  }
  const text = environment[LOGICAL_VARIABLE] || '1';
  const logical = Number(text);
  if (!Number.isInteger(logical) || logical < 1 || logical > 64) {
    throw new RangeError(
      `${LOGICAL_VARIABLE} is '${text}'.\nhelp: it is the number of devices that each GPU is offered as, from 1 to 64.`,
    );
  }
  return { software: software === '1', logical };
}
