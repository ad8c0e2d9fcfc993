//! Doors for the fuzz targets in `fuzz/`: weight files read whole, every tensor of them.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use super::WhisperError;
use super::weights::{Ct2File, SafetensorsFiles};

/// Reads CTranslate2's `model.bin`; gives how many tensors it has.
///
/// # Errors
/// As for [`Whisper::load`](super::Whisper::load).
pub fn ct2(bytes: &[u8]) -> Result<usize, WhisperError> {
    let mut file = Ct2File::open(Cursor::new(bytes), Path::new("model.bin"))?;
    let names = file.names();
    for name in &names {
        let tensor = file.read(name)?;
        assert_eq!(Some(tensor.values.len()), product(&tensor.shape), "{name}");
        assert_eq!(file.shape(name), Some(tensor.shape));
    }
    Ok(names.len())
}

/// Reads `model.safetensors` under the names that `fused` asks for, as the network does.
///
/// # Errors
/// As for [`Whisper::load`](super::Whisper::load).
pub fn safetensors(bytes: &[u8], fused: &[&str]) -> Result<(), WhisperError> {
    let path = PathBuf::from("model.safetensors");
    let mut file = SafetensorsFiles::open(vec![(Cursor::new(bytes), path)])?;
    for name in fused {
        if let Some(shape) = file.shape(name) {
            let tensor = file.read(name)?;
            assert_eq!(tensor.shape, shape, "{name}");
            assert_eq!(Some(tensor.values.len()), product(&shape), "{name}");
        }
    }
    Ok(())
}

fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, dimension| product.checked_mul(*dimension))
}
