//! Fragments of trickle ICE: refused for a reason, or read within bounds.

#![no_main]

use dragoman_fuzz::bounded;
use libfuzzer_sys::{Corpus, fuzz_target};
use media_server::transport::IceFragment;

/// What the HTTP face lets through.
const MOST_BYTES: usize = 64 * 1024;
/// Some copies of the fragment, cut into lines.
const MOST_MEMORY: usize = 8 << 20;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(fragment) = std::str::from_utf8(data) else { return Corpus::Reject };
    if fragment.len() > MOST_BYTES {
        return Corpus::Reject;
    }
    if let Err(error) = bounded(MOST_MEMORY, || IceFragment::read(fragment)) {
        assert!(!error.to_string().is_empty());
    }
    Corpus::Keep
});
