//! The head of espeak-ng's WAV stream.

#![no_main]

use dragoman_fuzz::bounded;
use inference::voice::espeak::read_wav_head;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    if let Ok(rate_hz) = bounded(64 << 10, || read_wav_head(&mut rest)) {
        assert!(rate_hz > 0);
        assert!(data.len() - rest.len() >= 12 + 8 + 16 + 8, "a head has two chunks at least");
    }
});
