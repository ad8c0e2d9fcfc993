//! Opus at 48 kHz mono (RFC 6716), with the parts of it that lossy networks need.

use opus::{Application, Bitrate, Channels, Signal};

use super::frames::PLAYOUT_SAMPLES;

/// Largest Opus packet of one frame (RFC 6716 section 3.2.1) with its table of contents.
pub const MAX_PACKET_BYTES: usize = 1_276;
/// Longest packet: 120 ms.
const MAX_SAMPLES: usize = 5_760;
/// Frames last a multiple of 2.5 ms.
const GRAIN: usize = 120;
/// Mono speech at full bandwidth (RFC 7587 section 3.1.1 gives 28 to 40 kbit/s).
const BITRATE: i32 = 32_000;
/// Speech gains little above it, and two cores serve many listeners.
const COMPLEXITY: i32 = 5;
/// The loss that in-band FEC is tuned for, percent.
const EXPECTED_LOSS: i32 = 5;

/// Samples at 48 kHz that a packet holds; `None` when it is no Opus packet.
#[must_use]
pub fn packet_samples(packet: &[u8]) -> Option<usize> {
    if packet.is_empty() {
        return None;
    }
    let samples = opus::packet::get_nb_samples(packet, 48_000).ok()?;
    (0 < samples && samples <= MAX_SAMPLES).then_some(samples)
}

/// Whether a packet carries a coarse copy of the frame before it (LBRR, RFC 6716 section 4.2.5).
///
/// The flags are the first bits of the first frame: one voice-activity bit per 20 ms, then the LBRR
/// bit, and the same again for the second channel (RFC 6716 section 4.2.3). Configurations 16 and
/// up are CELT alone and have none.
#[must_use]
pub fn has_fec(packet: &[u8]) -> bool {
    let Some(table_of_contents) = packet.first() else { return false };
    if table_of_contents >> 3 >= 16 {
        return false;
    }
    let Some(flags) = first_frame(packet).and_then(<[u8]>::first) else { return false };
    let per_frame = opus::packet::get_samples_per_frame(packet, 48_000).unwrap_or(PLAYOUT_SAMPLES);
    let voice_bits = per_frame.div_ceil(PLAYOUT_SAMPLES).clamp(1, 3);
    let is_stereo = table_of_contents & 0b100 != 0;
    let mid = flags >> (7 - voice_bits) & 1 == 1;
    let side = is_stereo && flags >> (6 - 2 * voice_bits.min(3)) & 1 == 1;
    mid || side
}

/// The first frame of a packet (RFC 6716 section 3.2). libopus would make a list of all of them, and
/// between a packet in and a packet out nothing is allocated.
fn first_frame(packet: &[u8]) -> Option<&[u8]> {
    let (table_of_contents, rest) = packet.split_first()?;
    match table_of_contents & 0b11 {
        0 => Some(rest),
        1 => rest.get(..rest.len() / 2),
        2 => {
            let (length, rest) = frame_length(rest)?;
            rest.get(..length)
        }
        _ => {
            let (layout, mut rest) = rest.split_first()?;
            let frames = usize::from(layout & 0x3f);
            let (has_lengths, has_padding) = (layout & 0x80 != 0, layout & 0x40 != 0);
            let mut padding = 0;
            let mut more = has_padding;
            while more {
                let (byte, after) = rest.split_first()?;
                rest = after;
                more = *byte == 255;
                padding += usize::from(*byte).min(254);
            }
            let mut first = None;
            if has_lengths {
                for _ in 1..frames {
                    let (length, after) = frame_length(rest)?;
                    rest = after;
                    first.get_or_insert(length);
                }
            }
            let sound = rest.len().checked_sub(padding)?;
            let even = if has_lengths { sound } else { sound.checked_div(frames)? };
            rest.get(..first.unwrap_or(even))
        }
    }
}

/// A frame's length and what follows it (RFC 6716 section 3.2.1).
fn frame_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let first = usize::from(*first);
    if first < 252 {
        return Some((first, rest));
    }
    let (second, rest) = rest.split_first()?;
    Some((4 * usize::from(*second) + first, rest))
}

/// Decodes one peer's packets to 48 kHz mono.
pub struct Decoder {
    opus: opus::Decoder,
}

impl Decoder {
    /// A decoder that has heard nothing yet.
    ///
    /// # Errors
    /// What libopus says; only for want of memory.
    pub fn new() -> Result<Self, opus::Error> {
        Ok(Self { opus: opus::Decoder::new(48_000, Channels::Mono)? })
    }

    /// Appends a packet's samples to `pcm`; the caller's vector stops growing when it is used
    /// again.
    ///
    /// # Errors
    /// When the packet is damaged; `pcm` is then as before.
    pub fn decode(&mut self, packet: &[u8], pcm: &mut Vec<f32>) -> Result<(), opus::Error> {
        let before = pcm.len();
        pcm.resize(before + MAX_SAMPLES, 0.0);
        let decoded = self.opus.decode_float(packet, &mut pcm[before..], false);
        pcm.truncate(before + decoded.as_ref().copied().unwrap_or(0));
        decoded.map(drop)
    }

    /// Appends `samples` samples that are guessed from what came before.
    pub fn conceal(&mut self, samples: usize, pcm: &mut Vec<f32>) {
        let mut left = samples;
        while left >= GRAIN {
            let piece = left.min(PLAYOUT_SAMPLES) / GRAIN * GRAIN;
            self.guess(&[], piece, pcm);
            left -= piece;
        }
        pcm.resize(pcm.len() + left, 0.0);
    }

    /// Appends the `samples` samples before `packet` from the copy that it carries.
    pub fn recover(&mut self, packet: &[u8], samples: usize, pcm: &mut Vec<f32>) {
        let whole = samples / GRAIN * GRAIN;
        if whole > 0 {
            self.guess(packet, whole, pcm);
        }
        pcm.resize(pcm.len() + samples - whole, 0.0);
    }

    fn guess(&mut self, packet: &[u8], samples: usize, pcm: &mut Vec<f32>) {
        let before = pcm.len();
        pcm.resize(before + samples, 0.0);
        let fec = !packet.is_empty();
        if let Err(error) = self.opus.decode_float(packet, &mut pcm[before..], fec) {
            tracing::debug!(%error, "concealment failed; silence instead");
            pcm[before..].fill(0.0);
        }
    }
}

/// Encodes one listener's track: 20 ms frames of 48 kHz mono.
pub struct Encoder {
    opus: opus::Encoder,
}

impl Encoder {
    /// An encoder for speech with in-band FEC.
    ///
    /// # Errors
    /// What libopus says; only for want of memory.
    pub fn new() -> Result<Self, opus::Error> {
        let mut opus = opus::Encoder::new(48_000, Channels::Mono, Application::Voip)?;
        opus.set_bitrate(Bitrate::Bits(BITRATE))?;
        opus.set_complexity(COMPLEXITY)?;
        opus.set_signal(Signal::Voice)?;
        opus.set_inband_fec(true)?;
        opus.set_packet_loss_perc(EXPECTED_LOSS)?;
        Ok(Self { opus })
    }

    /// Encodes a frame into `packet` and returns the packet's length in bytes.
    ///
    /// # Errors
    /// What libopus says; not for any samples between -1 and 1.
    pub fn encode(
        &mut self,
        frame: &[f32; PLAYOUT_SAMPLES],
        packet: &mut [u8; MAX_PACKET_BYTES],
    ) -> Result<usize, opus::Error> {
        self.opus.encode_float(frame, packet)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tone_frames(frames: usize) -> Vec<[f32; PLAYOUT_SAMPLES]> {
        let step = std::f32::consts::TAU * 440.0 / 48_000.0;
        (0..frames)
            .map(|frame| {
                std::array::from_fn(|n| {
                    let index = (frame * PLAYOUT_SAMPLES + n) as f32;
                    0.4 * (index * step).sin() * (0.6 + 0.4 * (index * step / 97.0).sin())
                })
            })
            .collect()
    }

    fn power(samples: &[f32]) -> f32 {
        samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32
    }

    #[test]
    fn a_lost_frame_is_recovered_from_the_copy_in_the_next_packet() {
        let mut encoder = Encoder::new().unwrap();
        encoder.opus.set_packet_loss_perc(30).unwrap();
        encoder.opus.set_bitrate(Bitrate::Bits(24_000)).unwrap();
        let mut packet = [0; MAX_PACKET_BYTES];
        let packets: Vec<Vec<u8>> = tone_frames(30)
            .iter()
            .map(|frame| {
                let length = encoder.encode(frame, &mut packet).unwrap();
                packet[..length].to_vec()
            })
            .collect();
        let with_copy = (10..29).find(|index| has_fec(&packets[index + 1])).unwrap();
        let decode = |lose: Option<bool>| {
            let mut decoder = Decoder::new().unwrap();
            let mut pcm = Vec::new();
            for (index, packet) in packets.iter().enumerate() {
                match lose {
                    Some(true) if index == with_copy => {
                        decoder.recover(&packets[index + 1], PLAYOUT_SAMPLES, &mut pcm);
                    }
                    Some(false) if index == with_copy => decoder.conceal(PLAYOUT_SAMPLES, &mut pcm),
                    _ => decoder.decode(packet, &mut pcm).unwrap(),
                }
            }
            pcm
        };
        let whole = decode(None);
        let error = |damaged: &[f32]| {
            let range = with_copy * PLAYOUT_SAMPLES..(with_copy + 1) * PLAYOUT_SAMPLES;
            let difference: Vec<f32> =
                whole[range.clone()].iter().zip(&damaged[range]).map(|(a, b)| a - b).collect();
            power(&difference)
        };
        assert_eq!(whole.len(), decode(Some(true)).len());
        assert!(error(&decode(Some(true))) < power(&whole) / 2.0);
    }

    #[test]
    fn durations_of_10_20_40_and_60_ms_are_told_by_the_packet() {
        let mut encoder = Encoder::new().unwrap();
        for samples in [480, 960, 1_920, 2_880] {
            let packet = encoder.opus.encode_vec_float(&vec![0.1; samples], 1_276).unwrap();
            assert_eq!(packet_samples(&packet), Some(samples));
            let mut pcm = Vec::new();
            Decoder::new().unwrap().decode(&packet, &mut pcm).unwrap();
            assert_eq!(pcm.len(), samples);
        }
    }

    #[test]
    fn concealment_gives_as_many_samples_as_asked() {
        let mut decoder = Decoder::new().unwrap();
        for samples in [0, 1, 119, 120, 960, 961, 4_800] {
            let mut pcm = Vec::new();
            decoder.conceal(samples, &mut pcm);
            assert_eq!(pcm.len(), samples);
        }
    }

    proptest! {
        #[test]
        fn the_first_frame_is_the_one_that_libopus_finds(
            code in 0u8..4,
            layout in any::<u8>(),
            lengths in 0usize..4,
            rest in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            // Short lengths, so that frames fit into the packet more often.
            let short = rest.iter().take(lengths).map(|byte| byte % 40);
            let packet: Vec<u8> = [0x08 | code, layout & 0xc7]
                .into_iter()
                .chain(short)
                .chain(rest.iter().skip(lengths).copied())
                .collect();
            if let Ok(parsed) = opus::packet::parse(&packet) {
                prop_assert_eq!(first_frame(&packet), parsed.frames.first().copied());
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(packet in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::new().unwrap();
            let mut pcm = Vec::new();
            let _ = has_fec(&packet);
            if packet_samples(&packet).is_some() {
                let _ = decoder.decode(&packet, &mut pcm);
                decoder.recover(&packet, PLAYOUT_SAMPLES, &mut pcm);
                prop_assert!(pcm.iter().all(|sample| sample.is_finite()));
            }
        }
    }
}
