/** `lockstep download-cifar10`: fetches and unpacks the data set that `lockstep cifar10` trains on. */
export { main } from '@lockstep/official/resnet/cifar10-download-and-extract';
