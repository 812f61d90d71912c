/** `lockstep download-cifar10`: fetches and unpacks the data set that `lockstep cifar10` trains on. */
export { defineFlags, main } from '@lockstep/official/resnet/cifar10-download-and-extract';
