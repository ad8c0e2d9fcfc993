//! Tensors of a file of weights.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Result, Tensor};

use crate::mapped::MappedFile;

/// All tensors of a `safetensors` file. The file's bytes are given back as they are read.
///
/// # Errors
/// The file is missing, damaged, or does not fit the device's memory.
pub(super) fn read(path: &Path, device: &Device) -> Result<HashMap<String, Tensor>> {
    let named = |error: candle_core::Error| error.with_path(path);
    let file = MappedFile::open(path).map_err(|error| named(error.into()))?;
    let tensors = candle_core::safetensors::SliceSafetensors::new(&file).map_err(named)?;
    let mut read = HashMap::new();
    for (name, view) in tensors.tensors() {
        let tensor = tensors.load(&name, device).map_err(named)?;
        read.insert(name, tensor);
        file.forget(view.data());
    }
    Ok(read)
}
