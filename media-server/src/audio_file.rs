//! Audio files in and out: whatever people have becomes 16 kHz mono, and speech becomes WAV.
//!
//! Containers and codecs are `symphonia`'s (WAV, FLAC, MP3, Ogg Vorbis); Opus in Ogg
//! is taken apart by `symphonia` and decoded by `opus`. A file is read block by block, so an hour
//! of speech needs no more memory than a second.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use thiserror::Error;

use crate::resample::{ResampleError, Resampler};

/// Sample rate of what is read for recognition.
const RATE_HZ: u32 = 16_000;

/// Longest Opus packet, 120 ms (RFC 6716, section 3.2.5).
const LONGEST_OPUS_PACKET_MS: u32 = 120;

/// Why a file cannot be read or written. Every variant names the file.
#[derive(Debug, Error)]
pub enum AudioFileError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file has no bytes.
    #[error("{0} is empty")]
    Empty(PathBuf),
    /// The file is not audio, or not of a kind that is read here: convert it to WAV or FLAC.
    #[error(
        "{path} is no audio file that is known here: it begins with {begins}; give wav, flac, mp3 or ogg"
    )]
    NotAudio {
        /// Which file.
        path: PathBuf,
        /// Its first bytes, readable.
        begins: String,
    },
    /// The container is known but what is in it is not: convert it to WAV or FLAC.
    #[error("{path} holds audio that cannot be decoded: {reason}; convert it to wav or flac")]
    UnsupportedCodec {
        /// Which file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Nothing in the file could be decoded: it is damaged or cut off.
    #[error("{path} holds no playable sound: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The file's sample rate is not one that audio uses, or it changes on the way.
    #[error("{path} cannot be converted to another sample rate")]
    Rate {
        /// Which file.
        path: PathBuf,
        /// Which rate.
        #[source]
        source: ResampleError,
    },
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: hound::Error,
    },
}

/// An audio file that is being read: an iterator of blocks of mono samples, -1 to 1, of any length, at
/// 16 kHz or another rate of Opus. Channels are averaged. After an error the file is over.
///
/// What is missing at the end of a file that was cut off, or cannot be decoded in its middle, is
/// left out with a warning in the log; only a file without any sound is an error.
pub struct AudioFile {
    path: PathBuf,
    format: Box<dyn FormatReader + 'static>,
    track: u32,
    rate_hz: u32,
    codec: Codec,
    /// Made when the first samples tell the rate.
    resampler: Option<(u32, Resampler)>,
    /// Samples at that rate that are not sound: the resampler's delay, Opus's pre-skip.
    skip: usize,
    decoded: bool,
    over: bool,
    last_damage: Option<String>,
}

/// Who decodes the packets.
enum Codec {
    Symphonia(Box<dyn AudioDecoder>),
    /// Decodes to mono at the rate wanted itself.
    Opus(opus::Decoder),
}

impl AudioFile {
    /// Opens a file and finds its first audio track.
    ///
    /// # Errors
    /// Any but [`AudioFileError::Write`].
    pub fn open(path: &Path) -> Result<Self, AudioFileError> {
        Self::open_at(path, RATE_HZ)
    }

    /// As [`open`](Self::open), at 8, 12, 16, 24 or 48 kHz, which Opus knows.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(path: &Path, rate_hz: u32) -> Result<Self, AudioFileError> {
        let path = path.to_owned();
        let read_error =
            |path: &Path, source| AudioFileError::Read { path: path.to_owned(), source };
        let mut file = File::open(&path).map_err(|source| read_error(&path, source))?;
        let mut first = [0u8; 12];
        let length =
            read_up_to(&mut file, &mut first).map_err(|source| read_error(&path, source))?;
        if length == 0 {
            return Err(AudioFileError::Empty(path));
        }
        file.rewind().map_err(|source| read_error(&path, source))?;
        let begins = first[..length].escape_ascii().to_string();

        let mut hint = Hint::new();
        if let Some(extension) = path.extension().and_then(|extension| extension.to_str()) {
            hint.with_extension(extension);
        }
        let stream = MediaSourceStream::new(Box::new(file), Default::default());
        let format = symphonia::default::get_probe()
            .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|_| AudioFileError::NotAudio { path: path.clone(), begins })?;
        let unsupported = |reason| AudioFileError::UnsupportedCodec { path: path.clone(), reason };
        let (track, parameters) = format
            .first_track_known_codec(TrackType::Audio)
            .and_then(|track| Some((track, track.codec_params.as_ref()?.audio()?)))
            .ok_or_else(|| unsupported("no track of a known kind".into()))?;
        let (codec, skip) =
            Codec::for_track(parameters, track.delay.unwrap_or(0), rate_hz).map_err(unsupported)?;
        Ok(Self {
            track: track.id,
            rate_hz,
            path,
            format,
            codec,
            resampler: None,
            skip,
            decoded: false,
            over: false,
            last_damage: None,
        })
    }

    /// The next block; `None` at the end.
    fn next_block(&mut self) -> Result<Option<Vec<f32>>, AudioFileError> {
        while !self.over {
            let mut block = match self.next_packet()? {
                Some(packet) if packet.track_id == self.track => self.decode(&packet)?,
                Some(_) => continue,
                None => self.finish()?,
            };
            let skipped = self.skip.min(block.len());
            block.drain(..skipped);
            self.skip -= skipped;
            if !block.is_empty() {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// The next packet of any track; `None` at the end, be it the right one or not.
    fn next_packet(&mut self) -> Result<Option<Packet>, AudioFileError> {
        match self.format.next_packet() {
            Ok(packet) => Ok(packet),
            Err(SymphoniaError::IoError(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                Err(AudioFileError::Read { path: self.path.clone(), source: error })
            }
            Err(SymphoniaError::IoError(_)) => Ok(None),
            Err(error) => {
                self.note_damage(error.to_string());
                Ok(None)
            }
        }
    }

    fn decode(&mut self, packet: &Packet) -> Result<Vec<f32>, AudioFileError> {
        let decoded = match &mut self.codec {
            Codec::Opus(decoder) => {
                let longest = self.rate_hz * LONGEST_OPUS_PACKET_MS / 1_000;
                let mut block = vec![0.0; longest as usize];
                match decoder.decode_float(&packet.data, &mut block, false) {
                    Ok(length) => {
                        block.truncate(length);
                        self.decoded = true;
                        return Ok(block);
                    }
                    Err(error) => Err(error.to_string()),
                }
            }
            Codec::Symphonia(decoder) => match decoder.decode(packet) {
                Ok(buffer) => {
                    let (rate, channels) = (buffer.spec().rate(), buffer.num_planes());
                    let mut samples = Vec::<f32>::new();
                    buffer.copy_to_vec_interleaved(&mut samples);
                    Ok((rate, downmix(&samples, channels)))
                }
                Err(error) => Err(error.to_string()),
            },
        };
        match decoded {
            Ok((rate, mono)) => {
                self.decoded |= !mono.is_empty();
                self.convert(rate, &mono)
            }
            Err(damage) => {
                self.note_damage(damage);
                Ok(Vec::new())
            }
        }
    }

    /// Converts to the rate wanted. A file that changes its rate on the way is flushed and goes on
    /// at the new one.
    fn convert(&mut self, rate: u32, mono: &[f32]) -> Result<Vec<f32>, AudioFileError> {
        let mut block = Vec::new();
        if self.resampler.as_ref().is_some_and(|(known, _)| *known != rate) {
            self.flush(&mut block);
        }
        if self.resampler.is_none() {
            let resampler = Resampler::new(rate, self.rate_hz)
                .map_err(|source| AudioFileError::Rate { path: self.path.clone(), source })?;
            // What is flushed from the old rate stands before the new delay; a file whose rate
            // changes keeps those few milliseconds.
            if block.is_empty() {
                self.skip += resampler.delay_samples();
            }
            self.resampler = Some((rate, resampler));
        }
        if let Some((_, resampler)) = &mut self.resampler {
            resampler.process(mono, &mut block);
        }
        Ok(block)
    }

    fn flush(&mut self, block: &mut Vec<f32>) {
        if let Some((_, mut resampler)) = self.resampler.take() {
            resampler.flush(block);
        }
    }

    fn finish(&mut self) -> Result<Vec<f32>, AudioFileError> {
        self.over = true;
        if !self.decoded {
            let reason = self.last_damage.take().unwrap_or_else(|| "it has no samples".into());
            return Err(AudioFileError::Damaged { path: self.path.clone(), reason });
        }
        let mut block = Vec::new();
        self.flush(&mut block);
        Ok(block)
    }

    fn note_damage(&mut self, reason: String) {
        if self.last_damage.is_none() {
            tracing::warn!(path = %self.path.display(), reason, "part of the audio file is left out");
        }
        self.last_damage = Some(reason);
    }
}

impl Iterator for AudioFile {
    type Item = Result<Vec<f32>, AudioFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let block = self.next_block();
        self.over |= block.is_err();
        block.transpose()
    }
}

impl Codec {
    /// The decoder, and how many of its first samples at the rate wanted are to be dropped; or what
    /// stands in the way.
    fn for_track(
        parameters: &AudioCodecParameters,
        delay: u32,
        rate_hz: u32,
    ) -> Result<(Self, usize), String> {
        if parameters.codec == CODEC_ID_OPUS {
            let channels = parameters.channels.as_ref().map_or(1, |channels| channels.count());
            if channels > 2 {
                return Err(format!("opus with {channels} channels"));
            }
            let decoder = opus::Decoder::new(rate_hz, opus::Channels::Mono)
                .map_err(|error| error.to_string())?;
            // The pre-skip counts samples at 48 kHz (RFC 7845, section 4.2).
            let skip = u64::from(delay) * u64::from(rate_hz) / 48_000;
            return Ok((Self::Opus(decoder), usize::try_from(skip).unwrap_or(usize::MAX)));
        }
        symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map(|decoder| (Self::Symphonia(decoder), 0))
            .map_err(|error| error.to_string())
    }
}

/// Reads a whole file as 16 kHz mono, -1 to 1.
///
/// # Errors
/// As [`AudioFile::open`].
pub fn read_16k(path: &Path) -> Result<Vec<f32>, AudioFileError> {
    let mut samples = Vec::new();
    for block in AudioFile::open(path)? {
        samples.extend_from_slice(&block?);
    }
    Ok(samples)
}

/// Writes mono samples (-1 to 1; what is beyond is clipped) as a WAV file of 16 bits.
///
/// # Errors
/// [`AudioFileError::Write`].
pub fn write_wav(path: &Path, samples: &[f32], rate_hz: u32) -> Result<(), AudioFileError> {
    let write = || -> Result<(), hound::Error> {
        let mut writer = hound::WavWriter::create(
            path,
            hound::WavSpec {
                channels: 1,
                sample_rate: rate_hz,
                bits_per_sample: 16,
                sample_format: hound::SampleFormat::Int,
            },
        )?;
        for sample in samples {
            writer.write_sample((sample * 32_767.0).round().clamp(-32_768.0, 32_767.0) as i16)?;
        }
        writer.finalize()
    };
    write().map_err(|source| AudioFileError::Write { path: path.to_owned(), source })
}

fn downmix(interleaved: &[f32], channels: usize) -> Vec<f32> {
    let channels = channels.max(1);
    interleaved
        .chunks_exact(channels)
        .map(|frame| {
            let mean = frame.iter().sum::<f32>() / channels as f32;
            // A file of floats may hold anything; the resampler bears no infinities.
            if mean.is_nan() { 0.0 } else { mean.clamp(-1.0, 1.0) }
        })
        .collect()
}

/// Fills as much of `buffer` as the file has.
fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests;
