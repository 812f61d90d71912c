/** For tests: as testing-parameter-server.ts, and the last rank kills itself three seconds after it has joined. */
const { OMPI_COMM_WORLD_RANK: rank, OMPI_COMM_WORLD_SIZE: size } = process.env;
if (Number(rank) === Number(size) - 1) setTimeout(() => process.kill(process.pid, 'SIGKILL'), 3_000);
await import('./testing-parameter-server.js');
