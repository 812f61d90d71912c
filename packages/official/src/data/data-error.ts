/** The data is missing or damaged. The message names the file, what is wrong, and what to do. */
export class DataError extends Error {
  override readonly name = 'DataError';
}
