/**
 * For tests: `node --import` of this file makes the communication thread of rank 1 fail before it has done anything, as the
 * variable says: 'exit' ends it without a word, 'library' leaves it without libmpi.
 */
import { isMainThread, workerData } from 'node:worker_threads';

const how = process.env.LOCKSTEP_TEST_THREAD_FAULT;
const isVictim = !isMainThread && process.env.OMPI_COMM_WORLD_RANK === '1' && workerData?.comm !== undefined;
if (isVictim && how === 'exit') process.exit();
if (isVictim && how === 'library') process.env.LOCKSTEP_MPI_LIBRARY = '/there/is/no/libmpi.so';
