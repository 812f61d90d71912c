/**
 * Errors on their way between threads, with their causes: structured clone would drop the class's name, its own properties, and what
 * an AggregateError holds.
 */
import { host } from '#host';
import { CommunicatorError } from '../communicator/communicator.js';

/** An error as it crosses threads. Plain data. */
export interface TransferredError {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly cause?: TransferredError;
  /** Of an AggregateError. */
  readonly errors?: readonly TransferredError[];
}

/** What the main thread has to know of an error that ended a replica. */
export interface ReplicaFailureReport extends TransferredError {
  readonly isCommunicatorError: boolean;
  /** For a CommunicatorError: the rank that it blames, if it knows one. */
  readonly blamedRank?: number;
  /** Before the replica function began. */
  readonly whileStarting: boolean;
}

/** Causes may form circles. */
const DEEPEST = 8;

/** Anything that was thrown, as plain data. What is no error keeps its value as text. */
export function toTransferred(thrown: unknown, depth = 0): TransferredError {
  const error =
    thrown instanceof Error ? thrown : new Error(typeof thrown === 'string' ? thrown : host.inspect(thrown));
  const isDeep = depth >= DEEPEST;
  return {
    name: error.name,
    message: error.message,
    ...(error.stack !== undefined && { stack: error.stack }),
    ...(error.cause !== undefined && !isDeep && { cause: toTransferred(error.cause, depth + 1) }),
    ...(error instanceof AggregateError &&
      !isDeep && { errors: error.errors.map((one) => toTransferred(one, depth + 1)) }),
  };
}

/** The same as an Error again, to be thrown or to be a cause. */
export function fromTransferred({ name, message, stack, cause, errors }: TransferredError): Error {
  const options = cause && { cause: fromTransferred(cause) };
  const error = errors
    ? new AggregateError(errors.map(fromTransferred), message, options)
    : new Error(message, options);
  return Object.assign(error, { name, stack });
}

/** In words: the message, what caused it, and what it is made of, a line each. */
export function describeError(error: TransferredError): string {
  const own = error.name === 'Error' ? error.message : `${error.name}: ${error.message}`;
  const parts = (error.errors ?? []).map((one, i) => `\n  ${i + 1}. ${describeError(one)}`);
  const cause = error.cause ? `\ncaused by: ${describeError(error.cause)}` : '';
  return `${own}${parts.join('')}${cause}`;
}

/** What ended a replica. */
export function toFailureReport(thrown: unknown, whileStarting: boolean): ReplicaFailureReport {
  const isCommunicatorError = thrown instanceof CommunicatorError;
  return {
    ...toTransferred(thrown),
    isCommunicatorError,
    ...(isCommunicatorError && thrown.rank !== undefined && { blamedRank: thrown.rank }),
    whileStarting,
  };
}
