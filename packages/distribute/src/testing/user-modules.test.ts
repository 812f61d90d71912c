/** A user's own module under the strategies of several processes: taken, and refused, as MirroredStrategy does (replica/programs.test.ts). */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { NUM_PS_VARIABLE } from '../cluster/index.js';
import { mpirun, whyNoMpirun } from '../mpi/testing/mpirun.js';

for (const [strategy, servers] of [
  ['MultiWorkerMirroredStrategy', 0],
  ['ParameterServerStrategy', 1],
] as const) {
  describe(`${strategy} and a user's module`, { skip: whyNoMpirun() }, () => {
    // Inside the package, so that its imports are found.
    let folder = '';
    before(() => {
      const parent = fileURLToPath(new URL('../../.lockstep/', import.meta.url));
      mkdirSync(parent, { recursive: true });
      folder = mkdtempSync(join(parent, 'modules-'));
    });
    after(() => rmSync(folder, { recursive: true, force: true }));
    const run = (module: string) => {
      const path = join(folder, 'program.mjs');
      const mpi = { startSeconds: 20, timeoutSeconds: 20, silenceSeconds: 20 };
      writeFileSync(
        path,
        `import { ${strategy} } from '@lockstep/distribute';
        export default () => 'never';
        const strategy = new ${strategy}({ devices: ['cpu:0'], log() {}, mpi: ${JSON.stringify(mpi)} });
        const results = await strategy.run(${module});
        if (strategy.role === 'worker') console.log(results[0]);
        strategy.close();`,
      );
      return mpirun(2, pathToFileURL(path), { environment: { [NUM_PS_VARIABLE]: String(servers) } });
    };

    it('compiled to CommonJS is taken as it is, and ends the job though it makes no trainer', async () => {
      const path = join(folder, 'compiled.cjs');
      writeFileSync(
        path,
        "'use strict'; Object.defineProperty(exports, '__esModule', { value: true });\nexports.default = (context) => 'compiled ' + context.inputReplicaId;",
      );
      const result = await run(JSON.stringify(pathToFileURL(path).href));
      assert.equal(result.status, 0, result.describe());
      for (let rank = 0; rank < 2 - servers; rank++) {
        assert.match(result.outputs[rank] as string, new RegExp(`compiled ${rank}`), result.describe());
      }
    });

    it('without `if (isMainThread)` ends with the error that says what to write', async () => {
      const result = await run('import.meta.url');
      assert.notEqual(result.status, 0, result.describe());
      const words =
        /called in a replica, while .*program\.mjs was loaded: .*\n.*help: put .* behind `if \(isMainThread\)/;
      assert.match(result.outputs[0] as string, words, result.describe());
    });

    it('that is no URL is refused before anything is joined', async () => {
      const result = await run("'./train.js'");
      assert.notEqual(result.status, 0, result.describe());
      for (const output of result.outputs) {
        assert.match(output, /strategy\.run\(\) needs the URL of a module, got '\.\/train\.js'/, result.describe());
      }
    });
  });
}
