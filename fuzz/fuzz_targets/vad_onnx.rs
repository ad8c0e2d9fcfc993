//! The voice activity detector's ONNX file.

#![no_main]

use dragoman_fuzz::bounded;
use inference::vad::Vad;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Empty messages take no bytes in the file but some in memory.
    let accepted = bounded((1 << 20) + 128 * data.len(), || Vad::from_onnx(data));
    if let Ok(vad) = accepted {
        vad.stream().push(&[0.1; 512], |probability| {
            assert!((0.0..=1.0).contains(&probability), "{probability}");
        });
    }
});
