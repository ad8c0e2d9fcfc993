//! What models compute on.

use std::sync::OnceLock;

use candle_core::Device;

/// There is no such device.
#[derive(Debug, thiserror::Error)]
#[error("no graphics card can be used: {0}")]
pub struct DeviceError(#[source] candle_core::Error);

/// The processor.
pub fn cpu() -> Device {
    Device::Cpu
}

/// The first graphics card, the same for all who ask.
///
/// It does everything in the order in which it is asked to, whichever thread asks: tensors go from
/// one thread to another. (That of `Device::new_cuda` keeps an order within each thread only.)
///
/// # Errors
/// There is none, its driver does not work, or the program was built without the feature `cuda`.
pub fn cuda() -> Result<Device, DeviceError> {
    static CARD: OnceLock<Device> = OnceLock::new();
    if let Some(card) = CARD.get() {
        return Ok(card.clone());
    }
    let card = Device::new_cuda_with_stream(0).and_then(in_one_order).map_err(DeviceError)?;
    Ok(CARD.get_or_init(|| card).clone())
}

/// Nothing is done to keep several streams of work in order with each other, which would take as long
/// as a small operation does.
#[cfg(feature = "cuda")]
#[allow(unsafe_code, reason = "candle leaves it to its user that there is one stream")]
fn in_one_order(card: Device) -> candle_core::Result<Device> {
    // SAFETY: all tensors of the card are made, used and freed on the one stream that this device has,
    // and there is no other device.
    unsafe { card.as_cuda_device()?.disable_event_tracking() };
    Ok(card)
}

#[cfg(not(feature = "cuda"))]
fn in_one_order(card: Device) -> candle_core::Result<Device> {
    Ok(card)
}

/// The first graphics card if it can be used, else the processor.
pub fn best() -> Device {
    cuda().unwrap_or_else(|_| cpu())
}

/// While it is held, a graphics card keeps what this thread tells it of the layouts of tensors, and is
/// told once only: otherwise that is an upload for each operation on a tensor that is not contiguous.
/// Nothing is ever forgotten, other small uploads neither: it is for loops over few shapes that upload
/// nothing else.
#[cfg(feature = "cuda")]
pub(crate) fn keeping_layouts(device: &Device) -> Option<impl Sized + use<>> {
    device.as_cuda_device().ok().map(|card| card.enable_cuda_graph_htod_cache())
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn keeping_layouts(_: &Device) -> Option<impl Sized + use<>> {
    None::<()>
}
