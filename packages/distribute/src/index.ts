/** @lockstep/distribute: tf.distribute for TensorFlow.js. */
export * from './communicator/communicator.js';
