// What is bundled: chained operations and gradients first (the suite expects both), then the backend, then the suite.
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops';
import '@tensorflow/tfjs-core/dist/register_all_gradients';
import './environment.mjs';
import '@tensorflow/tfjs-core/dist/tests';
