//! WAV files in and out. Whatever is read becomes 48 kHz mono.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler};

use crate::SAMPLE_RATE;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// Not there, not readable, or not a WAV file.
    #[error("cannot read {} as a WAV file", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: hound::Error,
    },
    /// It holds no samples.
    #[error("{} holds no samples", .0.display())]
    Empty(PathBuf),
    /// Its sample rate cannot be converted.
    #[error("{} has a sample rate of {rate} Hz, which cannot be converted to 48 kHz", path.display())]
    Rate {
        /// Which file.
        path: PathBuf,
        /// Its rate.
        rate: u32,
    },
    /// The folder is not there or not writable, or the disk is full.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: hound::Error,
    },
}

/// Reads a WAV file of any rate, sample format and number of channels; the channels are averaged.
///
/// # Errors
/// [`WavError`] names the file and what is wrong with it.
pub fn read_48k(path: &Path) -> Result<Vec<f32>, WavError> {
    let failed = |source| WavError::Read { path: path.to_owned(), source };
    let mut reader = WavReader::open(path).map_err(failed)?;
    let spec = reader.spec();
    let interleaved: Vec<f32> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().collect::<Result<_, _>>().map_err(failed)?,
        SampleFormat::Int => {
            let full_scale = (1_i64 << (spec.bits_per_sample - 1)) as f32;
            let scaled = reader.samples::<i32>().map(|sample| Ok(sample? as f32 / full_scale));
            scaled.collect::<Result<_, _>>().map_err(failed)?
        }
    };
    let channels = usize::from(spec.channels).max(1);
    let mono: Vec<f32> = interleaved
        .chunks_exact(channels)
        .map(|frame| frame.iter().sum::<f32>() / channels as f32)
        .collect();
    if mono.is_empty() {
        return Err(WavError::Empty(path.to_owned()));
    }
    resample(mono, spec.sample_rate)
        .ok_or_else(|| WavError::Rate { path: path.to_owned(), rate: spec.sample_rate })
}

/// Writes 48 kHz mono as 16-bit PCM.
///
/// # Errors
/// [`WavError::Write`].
pub fn write_48k(path: &Path, samples: &[f32]) -> Result<(), WavError> {
    let failed = |source| WavError::Write { path: path.to_owned(), source };
    let file = File::create(path).map_err(|error| failed(error.into()))?;
    write_48k_to(BufWriter::new(file), samples).map_err(failed)
}

/// Writes 48 kHz mono as 16-bit PCM into memory, or wherever.
///
/// # Errors
/// What the writer says, or that it is too long for a WAV file.
pub fn write_48k_to(sink: impl Write + Seek, samples: &[f32]) -> Result<(), hound::Error> {
    let spec = WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut writer = WavWriter::new(sink, spec)?;
    for &sample in samples {
        let scaled = (sample * 32_767.0).round().clamp(-32_768.0, 32_767.0) as i16;
        writer.write_sample(scaled)?;
    }
    writer.finalize()
}

fn resample(mono: Vec<f32>, rate: u32) -> Option<Vec<f32>> {
    if rate == SAMPLE_RATE {
        return Some(mono);
    }
    let mut resampler =
        Fft::<f32>::new(rate as usize, SAMPLE_RATE as usize, 1024, 1, FixedSync::Input).ok()?;
    let input = InterleavedSlice::new(&mono, 1, mono.len()).ok()?;
    let output = resampler.process_all(&input, mono.len(), None).ok()?;
    Some(output.take_data())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sine(rate: u32, seconds: f32) -> Vec<f32> {
        let length = (rate as f32 * seconds) as usize;
        let step = std::f32::consts::TAU * 440.0 / rate as f32;
        (0..length).map(|n| 0.5 * (n as f32 * step).sin()).collect()
    }

    fn write(path: &Path, rate: u32, channels: u16, bits: u16, samples: &[f32]) {
        let spec = WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: bits,
            sample_format: if bits == 32 { SampleFormat::Float } else { SampleFormat::Int },
        };
        let mut writer = WavWriter::create(path, spec).unwrap();
        for &sample in samples {
            for _ in 0..channels {
                match bits {
                    32 => writer.write_sample(sample).unwrap(),
                    _ => writer.write_sample((sample * (1 << (bits - 1)) as f32) as i32).unwrap(),
                }
            }
        }
        writer.finalize().unwrap();
    }

    #[test]
    fn any_rate_and_format_becomes_the_same_48_khz_mono() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let expected = sine(SAMPLE_RATE, 1.0);
        for (rate, channels, bits) in
            [(48_000, 1, 16), (16_000, 1, 16), (44_100, 2, 24), (8000, 2, 32), (22_050, 1, 8)]
        {
            write(&path, rate, channels, bits, &sine(rate, 1.0));
            let read = read_48k(&path).unwrap();
            let case = format!("{rate} Hz, {channels} channels, {bits} bits");
            assert!(read.len().abs_diff(expected.len()) <= 8, "{case}: {}", read.len());
            // The edges of the clip ring; the middle has to agree sample by sample.
            for at in (4800..43_200).step_by(7) {
                assert!((read[at] - expected[at]).abs() < 0.02, "{case} at {at}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.wav");
        write_48k(&path, &[0.0, 0.5, -0.5, 2.0, -2.0]).unwrap();
        let read = read_48k(&path).unwrap();
        for (got, expected) in read.iter().zip([0.0, 0.5, -0.5, 1.0, -1.0]) {
            assert!((got - expected).abs() < 1e-4);
        }
    }

    #[test]
    fn what_is_no_recording_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.wav");
        assert!(matches!(read_48k(&path), Err(WavError::Read { .. })));
        std::fs::write(&path, b"RIFF").unwrap();
        assert!(read_48k(&path).unwrap_err().to_string().contains("c.wav"));
        write_48k(&path, &[]).unwrap();
        assert!(matches!(read_48k(&path), Err(WavError::Empty(_))));
        assert!(matches!(write_48k(folder.path(), &[0.0]), Err(WavError::Write { .. })));
    }
}
