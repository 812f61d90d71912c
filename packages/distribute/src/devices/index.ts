/** Devices: names, providers, cores. */
export { allowedCpus } from './affinity.js';
export {
  type BackendSetup,
  type BackendSetupFunction,
  canonicalDeviceName,
  type DeviceDescription,
  type DeviceProvider,
  type DeviceType,
  type ListDevicesOptions,
  listDevices,
  registerDeviceProvider,
  resolveDevices,
  unregisterDeviceProvider,
} from './device.js';
export { type PhysicalCore, physicalCores } from './topology.js';
