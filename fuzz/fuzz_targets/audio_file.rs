//! Audio files of any kind: samples that are numbers, or an error that names the file.

#![no_main]

use dragoman_fuzz::{bounded, with_file};
use libfuzzer_sys::fuzz_target;
use media_server::audio_file::AudioFile;

/// Blocks of one file that are looked at; what is compressed well may hold hours.
const MOST_BLOCKS: usize = 2_000;
/// Largest block: a second at the highest rate that any container states, and its resampling.
const MOST_SAMPLES: usize = 1 << 20;
/// The decoders' tables, a few packets, and what the container says about itself.
const MOST_MEMORY: usize = 64 << 20;

fuzz_target!(|data: &[u8]| {
    with_file(data, |path| {
        bounded(MOST_MEMORY + 4 * data.len(), || {
            let file = match AudioFile::open(path) {
                Ok(file) => file,
                Err(error) => {
                    let name = path.display().to_string();
                    assert!(error.to_string().contains(&name), "{error} does not name the file");
                    return;
                }
            };
            let mut is_over = false;
            for block in file.take(MOST_BLOCKS) {
                assert!(!is_over, "a file goes on after an error");
                match block {
                    Ok(samples) => {
                        assert!(!samples.is_empty() && samples.len() <= MOST_SAMPLES);
                    }
                    Err(_) => is_over = true,
                }
            }
        });
    });
});
