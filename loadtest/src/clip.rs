//! Speech that is encoded once and sent by many: a hundred callers would otherwise keep a core busy
//! with encoding the same recordings.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opus::{Application, Bitrate, Channels, Encoder};

use crate::{FRAME, PACKET_TIME, SAMPLE_RATE};

/// What a browser uses for speech, bits per second.
const BITRATE: i32 = 32_000;
/// Largest encoded packet, bytes.
const MAX_PACKET: usize = 1275;
/// Packets until the encoder's output for silence changes no more.
const SETTLING: usize = 25;

/// Opus packets of 20 ms each, one after the other. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clip {
    packets: Arc<[Bytes]>,
}

impl Clip {
    /// Encodes 48 kHz mono samples as a browser does: 32 kbit/s, with forward error correction,
    /// after a moment of silence. The last packet is filled up with silence.
    ///
    /// # Errors
    /// What the codec says.
    pub fn encode(samples_48k: &[f32]) -> Result<Self, opus::Error> {
        let mut encoder = encoder()?;
        for _ in 0..SETTLING {
            encode(&mut encoder, &[])?;
        }
        let packets = samples_48k.chunks(FRAME).map(|frame| encode(&mut encoder, frame));
        Ok(Self { packets: packets.collect::<Result<_, _>>()? })
    }

    /// The packet of lasting silence.
    ///
    /// # Errors
    /// What the codec says.
    pub fn silence() -> Result<Bytes, opus::Error> {
        let mut encoder = encoder()?;
        for _ in 1..SETTLING {
            encode(&mut encoder, &[])?;
        }
        encode(&mut encoder, &[])
    }

    /// The packets.
    #[must_use]
    pub fn packets(&self) -> &[Bytes] {
        &self.packets
    }

    /// Time to say it.
    #[must_use]
    pub fn duration(&self) -> Duration {
        PACKET_TIME * u32::try_from(self.packets.len()).unwrap_or(u32::MAX)
    }
}

fn encoder() -> Result<Encoder, opus::Error> {
    let mut encoder = Encoder::new(SAMPLE_RATE, Channels::Mono, Application::Voip)?;
    encoder.set_bitrate(Bitrate::Bits(BITRATE))?;
    encoder.set_inband_fec(true)?;
    encoder.set_packet_loss_perc(5)?;
    encoder.set_dtx(false)?;
    Ok(encoder)
}

fn encode(encoder: &mut Encoder, samples: &[f32]) -> Result<Bytes, opus::Error> {
    let mut frame = [0.0; FRAME];
    frame[..samples.len()].copy_from_slice(samples);
    encoder.encode_vec_float(&frame, MAX_PACKET).map(Bytes::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use opus::Decoder;

    use super::*;
    use crate::level::dbfs;

    #[test]
    fn a_clip_between_silences_decodes_to_itself() {
        let tone: Vec<f32> = (0..48_100).map(|n| 0.3 * (n as f32 * 0.04).sin()).collect();
        let clip = Clip::encode(&tone).unwrap();
        assert_eq!(clip.packets().len(), 51);
        assert_eq!(clip.duration(), Duration::from_millis(1020));
        let silence = Clip::silence().unwrap();
        let mut decoder = Decoder::new(SAMPLE_RATE, Channels::Mono).unwrap();
        let mut levels = Vec::new();
        let quiet = std::iter::repeat_n(&silence, 20);
        for packet in quiet.clone().chain(clip.packets()).chain(quiet) {
            let mut samples = [0.0; FRAME];
            decoder.decode_float(packet, &mut samples, false).unwrap();
            levels.push(dbfs(&samples));
        }
        assert!(levels[..19].iter().all(|&level| level < -60.0), "{levels:?}");
        assert!(levels[23..68].iter().all(|&level| (level + 13.5).abs() < 1.5), "{levels:?}");
        assert!(levels[75..].iter().all(|&level| level < -60.0), "{levels:?}");
    }
}
