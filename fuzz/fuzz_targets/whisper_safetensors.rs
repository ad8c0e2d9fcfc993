//! Whisper's weights as safetensors.

#![no_main]

use dragoman_fuzz::bounded;
use inference::whisper::fuzzing::safetensors;
use libfuzzer_sys::fuzz_target;

/// One of each way in which names are fused.
const NAMES: [&str; 9] = [
    "encoder/conv1/weight",
    "decoder/embeddings/weight",
    "encoder/position_encodings/encodings",
    "encoder/layer_0/self_attention/linear_0/weight",
    "encoder/layer_0/self_attention/linear_0/bias",
    "decoder/layer_0/attention/linear_1/weight",
    "decoder/layer_0/attention/linear_1/bias",
    "encoder/layer_0/ffn/linear_0/weight",
    "decoder/layer_norm/gamma",
];

fuzz_target!(|data: &[u8]| {
    // A JSON value of two bytes takes tens of bytes in memory.
    let _ = bounded((64 << 10) + 128 * data.len(), || safetensors(data, &NAMES));
});
