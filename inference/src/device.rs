//! What models compute on.
//!
//! `unsafe` is allowed in one function, for two settings of a graphics card that candle has no safe way
//! to; each says why it holds.

use std::sync::OnceLock;

use candle_core::Device;
use serde::{Deserialize, Serialize};

/// There is no such device.
#[derive(Debug, thiserror::Error)]
#[error("no graphics card can be used: {0}")]
pub struct DeviceError(#[source] candle_core::Error);

/// Where a model is to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceName {
    /// On the first graphics card if there is one that this program is built for, else on the
    /// processor.
    #[default]
    Auto,
    /// On the processor.
    Cpu,
    /// On the first graphics card.
    Cuda,
}

impl DeviceName {
    /// The device.
    ///
    /// # Errors
    /// A graphics card is asked for, and there is none, or its driver does not work, or the program was built without the feature `cuda`.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(cpu()),
            Self::Cuda => cuda(),
            Self::Auto => Ok(cuda().unwrap_or_else(|_| cpu())),
        }
    }
}

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
fn cuda() -> Result<Device, DeviceError> {
    static CARD: OnceLock<Device> = OnceLock::new();
    if let Some(card) = CARD.get() {
        return Ok(card.clone());
    }
    let card = Device::new_cuda_with_stream(0).and_then(prepared).map_err(DeviceError)?;
    Ok(CARD.get_or_init(|| card).clone())
}

/// Nothing is done to keep several streams of work in order with each other, which would take as long
/// as a small operation does; and memory that was freed is kept, and not given back to the system to be
/// asked for again each time that a result is waited for.
#[cfg(feature = "cuda")]
#[allow(unsafe_code, reason = "candle has no safe way to either")]
fn prepared(device: Device) -> candle_core::Result<Device> {
    use candle_core::cuda_backend::cudarc::driver::result;
    use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;

    let card = device.as_cuda_device()?;
    // SAFETY: all tensors of the card are made, used and freed on the one stream that this device has,
    // and there is no other device that has tensors.
    unsafe { card.disable_event_tracking() };
    let stream = card.cuda_stream();
    let mut everything = u64::MAX;
    // SAFETY: the driver gave the device, whose pool lives as long as the program, and this attribute is
    // a number of 64 bits, which is read before the call returns.
    let kept = unsafe {
        result::device::get_default_mem_pool(stream.context().cu_device()).and_then(|pool| {
            let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, threshold, (&raw mut everything).cast())
        })
    };
    if let Err(error) = kept {
        tracing::warn!(%error, "the graphics card's memory is slow to be had");
    }
    Ok(device)
}

#[cfg(not(feature = "cuda"))]
fn prepared(device: Device) -> candle_core::Result<Device> {
    Ok(device)
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
