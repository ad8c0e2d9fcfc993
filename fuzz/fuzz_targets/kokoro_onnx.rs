//! Kokoro's ONNX graph, and its vocabulary.

#![no_main]

use dragoman_fuzz::bounded;
use inference::voice::kokoro::{read_graph, read_vocabulary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limit = (4 << 20) + 256 * data.len();
    if data.first() == Some(&b'{') {
        let _ = bounded(limit, || read_vocabulary(data));
    } else {
        let _ = bounded(limit, || read_graph(data));
    }
});
