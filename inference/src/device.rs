//! What models compute on.

use candle_core::Device;

/// There is no such device.
#[derive(Debug, thiserror::Error)]
#[error("no graphics card can be used: {0}")]
pub struct DeviceError(#[source] candle_core::Error);

/// The processor.
pub fn cpu() -> Device {
    Device::Cpu
}

/// The first graphics card.
///
/// # Errors
/// There is none, its driver does not work, or the program was built without the feature `cuda`.
pub fn cuda() -> Result<Device, DeviceError> {
    Device::new_cuda(0).map_err(DeviceError)
}

/// The first graphics card if it can be used, else the processor.
pub fn best() -> Device {
    cuda().unwrap_or_else(|_| cpu())
}
