/** Devices: names, providers, cores. */
export {
  type BackendSetup,
  type BackendSetupFunction,
  canonicalDeviceName,
  type DeviceDescription,
  type DeviceFacts,
  type DeviceOffer,
  type DeviceProvider,
  type DeviceType,
  describeGpus,
  type ListDevicesOptions,
  listDevices,
  registerDeviceProvider,
  resolveDevices,
  unregisterDeviceProvider,
} from './device.js';
export {
  type ActivationType,
  type HostAccess,
  hostAccess,
  observe,
  plainAccess,
  type StepProgram,
} from './host-access.js';
export { allowedCpus, type PhysicalCore, physicalCores } from './topology.js';
