//! Element types of weight files and their conversion to `f32`.

use half::{bf16, f16};

/// How a file stores the elements of a tensor (little endian).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    F32,
    I8,
    I16,
    I32,
    F16,
    BF16,
}

impl ElementType {
    pub fn size(self) -> usize {
        match self {
            Self::I8 => 1,
            Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::F32 | Self::I32 => 4,
        }
    }

    /// Converts whole elements; trailing bytes of an incomplete element are ignored.
    pub fn to_f32(self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect()
        }
        match self {
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::I8 => each(bytes, |[byte]: [u8; 1]| f32::from(i8::from_le_bytes([byte]))),
            Self::I16 => each(bytes, |chunk| f32::from(i16::from_le_bytes(chunk))),
            Self::I32 => each(bytes, |chunk| i32::from_le_bytes(chunk) as f32),
            Self::F16 => each(bytes, |chunk| f16::from_le_bytes(chunk).to_f32()),
            Self::BF16 => each(bytes, |chunk| bf16::from_le_bytes(chunk).to_f32()),
        }
    }
}

/// Bytes that a tensor of `shape` takes, or `None` on overflow.
pub fn byte_length(shape: &[usize], element: ElementType) -> Option<u64> {
    let mut length = element.size() as u64;
    for &dimension in shape {
        length = length.checked_mul(dimension as u64)?;
    }
    Some(length)
}
