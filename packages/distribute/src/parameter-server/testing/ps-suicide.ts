/** For tests: as parameter-server.ts, and the last rank kills itself when the file TESTING_PS_SIGNAL is there. */
import { existsSync } from 'node:fs';

const { OMPI_COMM_WORLD_RANK: rank, OMPI_COMM_WORLD_SIZE: size, TESTING_PS_SIGNAL: signal = '' } = process.env;
if (Number(rank) === Number(size) - 1) {
  setInterval(() => existsSync(signal) && process.kill(process.pid, 'SIGKILL'), 20).unref();
}
await import('./parameter-server.js');
