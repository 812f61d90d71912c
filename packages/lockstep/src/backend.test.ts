/** Two packages that do not import each other meet here: oneDNN's way to its memory is what distribute takes, by shape. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HostAccess, hostAccess } from '@lockstep/distribute';
import { OneDnnBackend } from '@lockstep/onednn';
import * as tf from '@tensorflow/tfjs-core';

test("distribute reaches oneDNN's memory by what the backend hands over, where no device module ran", async () => {
  assert.equal(await tf.setBackend('onednn'), true);
  const backend = tf.backend();
  assert.ok(backend instanceof OneDnnBackend);
  const own: HostAccess = backend.hostAccess;
  assert.equal(hostAccess(), own);
});
