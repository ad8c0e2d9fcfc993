//! Whisper's weights as CTranslate2 writes them.

#![no_main]

use dragoman_fuzz::bounded;
use inference::whisper::fuzzing::ct2;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // An 8-bit value becomes four bytes; names and shapes take some more.
    let _ = bounded((64 << 10) + 64 * data.len(), || ct2(data));
});
