//! Samples into bytes: WAV, bare samples, and Opus in Ogg (RFC 7845).

use ogg::{PacketWriteEndInfo, PacketWriter};
use opus::{Application, Channels};
use signaling::studio::{SpeechFormat, StudioError};

/// Rate of WAV and bare samples.
const PLAIN_RATE_HZ: u32 = 24_000;
/// The only rate that Ogg counts Opus in.
const OPUS_RATE_HZ: u32 = 48_000;
/// Samples of a packet, 20 ms.
const FRAME: usize = 960;
/// Longest packet of 20 ms (RFC 6716, section 3.2.1).
const MAX_PACKET: usize = 1275;
/// Packets of a page: half a second, so that a listener can begin soon.
const PACKETS_OF_A_PAGE: u64 = 25;
/// A stream alone in its file needs no number that tells it from others.
const SERIAL: u32 = 1;

/// Turns samples into the bytes of a format, as they come.
pub(super) enum Encoder {
    /// 16-bit samples, after the head if there is one.
    Plain { head: Vec<u8> },
    /// Boxed: it is large.
    Opus(Box<OggOpus>),
}

impl Encoder {
    pub(super) fn new(format: SpeechFormat) -> Result<Self, StudioError> {
        Ok(match format {
            SpeechFormat::Wav => Self::Plain { head: wav_head() },
            SpeechFormat::Pcm => Self::Plain { head: Vec::new() },
            SpeechFormat::OggOpus => Self::Opus(Box::new(OggOpus::new()?)),
        })
    }

    /// Rate of the samples that it takes, mono.
    pub(super) fn rate_hz(&self) -> u32 {
        match self {
            Self::Plain { .. } => PLAIN_RATE_HZ,
            Self::Opus(_) => OPUS_RATE_HZ,
        }
    }

    /// The bytes that are complete now; possibly none.
    pub(super) fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>, StudioError> {
        match self {
            Self::Plain { head } => {
                let mut bytes = std::mem::take(head);
                bytes.extend(samples.iter().flat_map(|sample| {
                    let scaled = (sample * 32_767.0).round().clamp(-32_768.0, 32_767.0);
                    (scaled as i16).to_le_bytes()
                }));
                Ok(bytes)
            }
            Self::Opus(opus) => Ok(opus.push(samples)?),
        }
    }

    /// The last bytes.
    pub(super) fn finish(self) -> Result<Vec<u8>, StudioError> {
        match self {
            Self::Plain { head } => Ok(head),
            Self::Opus(opus) => Ok(opus.finish()?),
        }
    }
}

impl From<EncodeError> for StudioError {
    fn from(error: EncodeError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// The head of a file whose length is not known yet.
fn wav_head() -> Vec<u8> {
    const UNKNOWN: u32 = u32::MAX;
    let (channels, bytes_per_sample) = (1_u16, 2_u16);
    let bytes_per_second = PLAIN_RATE_HZ * u32::from(bytes_per_sample);
    let mut head = Vec::with_capacity(44);
    head.extend_from_slice(b"RIFF");
    head.extend_from_slice(&UNKNOWN.to_le_bytes());
    head.extend_from_slice(b"WAVEfmt ");
    head.extend_from_slice(&16_u32.to_le_bytes());
    head.extend_from_slice(&1_u16.to_le_bytes());
    head.extend_from_slice(&channels.to_le_bytes());
    head.extend_from_slice(&PLAIN_RATE_HZ.to_le_bytes());
    head.extend_from_slice(&bytes_per_second.to_le_bytes());
    head.extend_from_slice(&bytes_per_sample.to_le_bytes());
    head.extend_from_slice(&(8 * bytes_per_sample).to_le_bytes());
    head.extend_from_slice(b"data");
    head.extend_from_slice(&UNKNOWN.to_le_bytes());
    head
}

#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error("the opus encoder failed")]
    Opus(#[from] opus::Error),
    #[error("the ogg writer failed")]
    Ogg(#[from] std::io::Error),
}

/// An Ogg stream with Opus packets of 20 ms.
pub(super) struct OggOpus {
    encoder: opus::Encoder,
    writer: PacketWriter<'static, Vec<u8>>,
    /// Samples that do not fill a packet yet.
    pending: Vec<f32>,
    /// Samples that the decoder must drop at the beginning.
    pre_skip: u64,
    /// Samples pushed, and packets written.
    length: u64,
    packets: u64,
    /// The newest packet, kept back since the last one is marked.
    last: Option<Vec<u8>>,
}

impl OggOpus {
    fn new() -> Result<Self, EncodeError> {
        let mut encoder = opus::Encoder::new(OPUS_RATE_HZ, Channels::Mono, Application::Audio)?;
        let pre_skip = u16::try_from(encoder.get_lookahead()?).unwrap_or(0);
        let mut head = Vec::from(*b"OpusHead");
        head.extend_from_slice(&[1, 1]);
        head.extend_from_slice(&pre_skip.to_le_bytes());
        head.extend_from_slice(&PLAIN_RATE_HZ.to_le_bytes());
        // No gain, and the mapping of one channel.
        head.extend_from_slice(&[0, 0, 0]);
        let vendor = b"dragoman";
        let mut tags = Vec::from(*b"OpusTags");
        tags.extend_from_slice(&(vendor.len() as u32).to_le_bytes());
        tags.extend_from_slice(vendor);
        tags.extend_from_slice(&0_u32.to_le_bytes());
        let mut writer = PacketWriter::new(Vec::new());
        writer.write_packet(head, SERIAL, PacketWriteEndInfo::EndPage, 0)?;
        writer.write_packet(tags, SERIAL, PacketWriteEndInfo::EndPage, 0)?;
        Ok(Self {
            encoder,
            writer,
            pending: Vec::new(),
            pre_skip: u64::from(pre_skip),
            length: 0,
            packets: 0,
            last: None,
        })
    }

    fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>, EncodeError> {
        self.pending.extend_from_slice(samples);
        self.length += samples.len() as u64;
        self.encode_whole_frames()?;
        Ok(std::mem::take(self.writer.inner_mut()))
    }

    fn encode_whole_frames(&mut self) -> Result<(), EncodeError> {
        let whole = self.pending.len() - self.pending.len() % FRAME;
        let frames: Vec<f32> = self.pending.drain(..whole).collect();
        for frame in frames.chunks_exact(FRAME) {
            let packet = self.encoder.encode_vec_float(frame, MAX_PACKET)?;
            if let Some(before) = self.last.replace(packet) {
                self.packets += 1;
                let end = match self.packets % PACKETS_OF_A_PAGE {
                    0 => PacketWriteEndInfo::EndPage,
                    _ => PacketWriteEndInfo::NormalPacket,
                };
                let position = self.packets * FRAME as u64;
                self.writer.write_packet(before, SERIAL, end, position)?;
            }
        }
        Ok(())
    }

    /// The last position says how much of the last packet is sound (RFC 7845, section 4.4).
    fn finish(mut self) -> Result<Vec<u8>, EncodeError> {
        let needed = (self.pre_skip + self.length).div_ceil(FRAME as u64).max(1) * FRAME as u64;
        let given = self.length - self.pending.len() as u64;
        let silence = needed - given - self.pending.len() as u64;
        self.pending.resize(self.pending.len() + silence as usize, 0.0);
        self.encode_whole_frames()?;
        let position = self.pre_skip + self.length;
        if let Some(last) = self.last.take() {
            self.writer.write_packet(last, SERIAL, PacketWriteEndInfo::EndStream, position)?;
        }
        Ok(self.writer.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::audio_file::read_16k;

    fn tone(rate_hz: u32, seconds: f32) -> Vec<f32> {
        let count = (rate_hz as f32 * seconds) as usize;
        let step = std::f32::consts::TAU * 440.0 / rate_hz as f32;
        (0..count).map(|index| 0.5 * (step * index as f32).sin()).collect()
    }

    fn encoded(format: SpeechFormat, seconds: f32, piece: usize) -> Vec<u8> {
        let mut encoder = Encoder::new(format).expect("an encoder");
        let mut bytes = Vec::new();
        for samples in tone(encoder.rate_hz(), seconds).chunks(piece) {
            bytes.extend(encoder.push(samples).expect("encoded"));
        }
        bytes.extend(encoder.finish().expect("the end"));
        bytes
    }

    /// As our own reader hears it: length in seconds and loudness.
    fn heard(bytes: &[u8], extension: &str) -> (f64, f32) {
        let mut file = tempfile::Builder::new().suffix(extension).tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        let samples = read_16k(file.path()).expect("a recording");
        let power =
            samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32;
        (samples.len() as f64 / 16_000.0, power.sqrt())
    }

    #[test]
    fn ogg_opus_of_any_pieces_is_as_long_as_the_samples_and_as_loud() {
        for piece in [1, 479, 960, 10_007] {
            let (seconds, loudness) = heard(&encoded(SpeechFormat::OggOpus, 1.234, piece), ".ogg");
            // The reader does not cut the padding of the last packet.
            assert!((1.233..1.234 + 0.021).contains(&seconds), "{piece}: {seconds}");
            assert!((loudness - 0.354).abs() < 0.02, "{piece}: {loudness}");
        }
    }

    #[test]
    fn wav_of_unknown_length_is_read_to_its_end() {
        let (seconds, loudness) = heard(&encoded(SpeechFormat::Wav, 0.5, 1000), ".wav");
        assert!((seconds - 0.5).abs() < 0.001, "{seconds}");
        assert!((loudness - 0.354).abs() < 0.01, "{loudness}");
    }

    #[test]
    fn bare_samples_are_little_endian_and_clipped() {
        let mut encoder = Encoder::new(SpeechFormat::Pcm).expect("an encoder");
        let bytes = encoder.push(&[0.0, 1.0, -2.0]).expect("encoded");
        assert_eq!(bytes, [0, 0, 0xff, 0x7f, 0x00, 0x80]);
        assert!(encoder.finish().expect("the end").is_empty());
    }

    #[test]
    fn nothing_said_is_still_a_file() {
        let bytes = encoded(SpeechFormat::OggOpus, 0.0, 1);
        assert_eq!(&bytes[..4], b"OggS");
        assert_eq!(encoded(SpeechFormat::Wav, 0.0, 1).len(), 44);
    }
}
