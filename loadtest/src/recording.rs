//! What a caller heard: the received packets decoded onto one timeline, with the instant at which
//! each packet arrived.
//!
//! The timeline follows the RTP timestamps. Packets that never came are concealed: the last one
//! from the redundancy in its successor when there is some (in-band FEC, RFC 6716 §2.1.7), those
//! before it by the decoder. A timestamp that jumps while the sequence numbers do not is silence
//! that was not sent (DTX, RFC 7587 §3.1.3).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use opus::{Channels, Decoder};

use crate::level::{dbfs, duration_of};
use crate::playout::Playout;
use crate::{FRAME, SAMPLE_RATE};

/// Longest recording: 30 minutes, 330 MiB. What comes later is counted, not kept.
pub const MAX_RECORDED: usize = 30 * 60 * SAMPLE_RATE as usize;

/// Most packets that are measured without their samples: eight hours, 70 MiB.
const MAX_MEASURED: usize = 8 * 60 * 60 * 50;

/// Packets that are waited for once others have overtaken them, five seconds' worth.
const MAX_AWAITED: usize = 250;

/// Longest packet Opus knows: 120 ms.
pub(crate) const MAX_PACKET: usize = SAMPLE_RATE as usize * 120 / 1000;
/// The decoder's guesses are worth hearing for this long; then silence.
const MAX_CONCEALED: usize = SAMPLE_RATE as usize / 10;
/// A longer gap in the timestamps is a new timeline, not a pause.
const MAX_GAP: usize = 60 * SAMPLE_RATE as usize;
/// The decoder produces whole multiples of 2.5 ms.
const STEP: usize = SAMPLE_RATE as usize / 400;
/// A packet louder than this carries sound.
pub const SOUND_DBFS: f32 = -50.0;

/// One packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedPacket {
    /// RTP timestamp, 48 kHz.
    pub rtp_timestamp: u32,
    /// RTP sequence number.
    pub sequence_number: u16,
    /// When it was read.
    pub arrival: Instant,
    /// Where its samples begin in the recording.
    pub position: usize,
    /// How many samples it holds.
    pub samples: usize,
    /// Whether there is sound in it, above [`SOUND_DBFS`].
    pub sounds: bool,
}

/// What a caller heard so far.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// 48 kHz mono from the first packet on; empty when samples are not kept.
    pub samples: Vec<f32>,
    /// The packets, in the order of their sequence numbers.
    pub packets: Vec<ReceivedPacket>,
    /// Their payloads, when they are kept.
    pub payloads: Vec<Bytes>,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came after their successors, or twice, and were dropped.
    pub late: u64,
    /// Packets that a listener would have had to conceal: they never came, or too late to be played
    /// (see [`crate::playout`]).
    pub concealed: u64,
    /// Packets that are no Opus.
    pub malformed: u64,
    /// Packets that came after the recording was full.
    pub beyond_limit: u64,
    /// When the last packet with sound in it (above [`SOUND_DBFS`]) arrived.
    pub last_sound_at: Option<Instant>,
}

impl Recording {
    /// The packet that holds the sample with this RTP timestamp.
    #[must_use]
    pub fn packet_at(&self, rtp_timestamp: u32) -> Option<&ReceivedPacket> {
        self.packets.iter().rev().find(|packet| {
            (rtp_timestamp.wrapping_sub(packet.rtp_timestamp) as usize) < packet.samples
        })
    }

    /// When the packet with this RTP timestamp arrived.
    #[must_use]
    pub fn arrival_of(&self, rtp_timestamp: u32) -> Option<Instant> {
        self.packet_at(rtp_timestamp).map(|packet| packet.arrival)
    }

    /// The samples from this RTP timestamp on.
    #[must_use]
    pub fn from_timestamp(&self, rtp_timestamp: u32) -> Option<&[f32]> {
        let packet = self.packet_at(rtp_timestamp)?;
        let into_packet = rtp_timestamp.wrapping_sub(packet.rtp_timestamp) as usize;
        self.samples.get(packet.position + into_packet..)
    }

    /// Length of the recording.
    #[must_use]
    pub fn duration(&self) -> Duration {
        duration_of(self.samples.len())
    }

    /// How much of the recording is louder than [`SOUND_DBFS`], in steps of 20 ms.
    #[must_use]
    pub fn sounding(&self) -> Duration {
        let frames = self.samples.chunks(FRAME).filter(|frame| dbfs(frame) > SOUND_DBFS).count();
        duration_of(frames * FRAME)
    }
}

/// Where the next packet should continue.
#[derive(Clone, Copy, Debug)]
struct Expected {
    sequence_number: u16,
    rtp_timestamp: u32,
}

/// What of the packets is kept besides what is measured of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The samples; lost packets are concealed.
    Samples,
    /// The packets as they came, small enough for hours.
    Packets,
    /// Nothing: small enough for hundreds of callers in one program.
    Nothing,
}

/// Makes a [`Recording`] of packets.
#[derive(Debug)]
pub struct Recorder {
    decoder: Decoder,
    recording: Recording,
    expected: Option<Expected>,
    playout: Playout,
    scratch: Vec<f32>,
    keep: Keep,
    /// Sequence numbers that were skipped, as far as they may still come.
    awaited: VecDeque<u16>,
}

impl Recorder {
    /// An empty recording. Where samples are not kept, packets are decoded for their loudness alone.
    ///
    /// # Errors
    /// When the decoder cannot be made.
    pub fn new(keep: Keep) -> Result<Self, opus::Error> {
        Ok(Self {
            decoder: Decoder::new(SAMPLE_RATE, Channels::Mono)?,
            recording: Recording::default(),
            expected: None,
            playout: Playout::default(),
            scratch: vec![0.0; MAX_PACKET],
            keep,
            awaited: VecDeque::new(),
        })
    }

    /// What was recorded so far.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Takes one packet's payload.
    pub fn receive(
        &mut self,
        sequence_number: u16,
        rtp_timestamp: u32,
        payload: &[u8],
        arrival: Instant,
    ) {
        let Some(samples) = packet_length(payload) else {
            self.recording.malformed += 1;
            return;
        };
        let expected = self.expected.unwrap_or(Expected { sequence_number, rtp_timestamp });
        let lost = sequence_number.wrapping_sub(expected.sequence_number);
        let is_too_late = self.playout.is_too_late(rtp_timestamp, arrival);
        if lost > u16::MAX / 2 {
            self.recording.late += 1;
            // One that was overtaken came all the same; one that came twice is no news.
            if let Some(index) = self.awaited.iter().position(|&it| it == sequence_number) {
                self.awaited.remove(index);
                self.recording.lost -= 1;
                self.recording.concealed -= u64::from(!is_too_late);
            }
            return;
        }
        self.expected = Some(Expected {
            sequence_number: sequence_number.wrapping_add(1),
            rtp_timestamp: rtp_timestamp.wrapping_add(samples as u32),
        });
        self.recording.lost += u64::from(lost);
        self.recording.concealed += u64::from(lost) + u64::from(is_too_late);
        let skipped = (0..lost).map(|n| expected.sequence_number.wrapping_add(n));
        self.awaited.extend(skipped.skip(usize::from(lost).saturating_sub(MAX_AWAITED)));
        let too_many = self.awaited.len().saturating_sub(MAX_AWAITED);
        self.awaited.drain(..too_many);
        if self.is_full() {
            self.recording.beyond_limit += 1;
            return;
        }
        let (position, sounds) = if self.keep == Keep::Samples {
            // A timestamp that went back is more than MAX_GAP ahead as well.
            let gap = rtp_timestamp.wrapping_sub(expected.rtp_timestamp) as usize;
            if (1..=MAX_GAP).contains(&gap) {
                self.bridge(gap, lost > 0, payload, samples);
            }
            let position = self.recording.samples.len();
            self.decode(payload, samples, false);
            (position, dbfs(&self.recording.samples[position..]) > SOUND_DBFS)
        } else {
            (0, self.sounds(payload, samples))
        };
        if sounds {
            self.recording.last_sound_at = Some(arrival);
        }
        if self.keep == Keep::Packets {
            self.recording.payloads.push(Bytes::copy_from_slice(payload));
        }
        self.recording.packets.push(ReceivedPacket {
            rtp_timestamp,
            sequence_number,
            arrival,
            position,
            samples,
            sounds,
        });
    }

    fn is_full(&self) -> bool {
        if self.keep == Keep::Samples {
            self.recording.samples.len() + MAX_GAP + MAX_PACKET > MAX_RECORDED
        } else {
            self.recording.packets.len() >= MAX_MEASURED
        }
    }

    /// Whether there is sound in a packet whose samples are not kept.
    fn sounds(&mut self, payload: &[u8], samples: usize) -> bool {
        match self.decoder.decode_float(payload, &mut self.scratch[..samples], false) {
            Ok(decoded) => dbfs(&self.scratch[..decoded.min(samples)]) > SOUND_DBFS,
            Err(_) => {
                self.recording.malformed += 1;
                false
            }
        }
    }

    /// Fills `gap` samples before a packet that holds `samples`.
    fn bridge(&mut self, gap: usize, is_loss: bool, next_payload: &[u8], samples: usize) {
        let end = self.recording.samples.len() + gap;
        if is_loss {
            let redundant = if gap >= samples { samples } else { 0 };
            let mut guessed = (gap - redundant).min(MAX_CONCEALED) / STEP * STEP;
            while guessed > 0 {
                let piece = guessed.min(FRAME);
                self.decode(&[], piece, false);
                guessed -= piece;
            }
            self.recording.samples.resize(end - redundant, 0.0);
            if redundant > 0 {
                self.decode(next_payload, samples, true);
            }
        }
        self.recording.samples.resize(end, 0.0);
    }

    /// Appends exactly `samples` samples; silence where the decoder fails.
    fn decode(&mut self, payload: &[u8], samples: usize, redundancy: bool) {
        let end = self.recording.samples.len() + samples;
        match self.decoder.decode_float(payload, &mut self.scratch[..samples], redundancy) {
            Ok(decoded) => {
                self.recording.samples.extend_from_slice(&self.scratch[..decoded.min(samples)]);
            }
            Err(_) => self.recording.malformed += 1,
        }
        self.recording.samples.resize(end, 0.0);
    }
}

/// Samples in a packet at 48 kHz, when it is one.
fn packet_length(payload: &[u8]) -> Option<usize> {
    if payload.is_empty() {
        return None;
    }
    let samples = opus::packet::get_nb_samples(payload, SAMPLE_RATE).ok()?;
    (STEP..=MAX_PACKET).contains(&samples).then_some(samples)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use opus::{Application, Encoder};
    use proptest::prelude::*;

    use super::*;

    /// A buzz with four syllables a second. The redundancy is carried by Opus's speech layer, and
    /// only for what it takes for speech: a steady sound is background to it.
    fn buzz(at: usize) -> f32 {
        let turn = at as f32 * std::f32::consts::TAU / SAMPLE_RATE as f32;
        let syllable = 0.5 - 0.5 * (4.0 * turn).cos();
        let voice: f32 = (1..=12)
            .map(|harmonic| 0.25 / harmonic as f32 * (150.0 * turn * harmonic as f32).sin())
            .sum();
        syllable * voice
    }

    fn packets(count: usize) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(SAMPLE_RATE, Channels::Mono, Application::Voip).unwrap();
        encoder.set_signal(opus::Signal::Voice).unwrap();
        encoder.set_max_bandwidth(opus::Bandwidth::Wideband).unwrap();
        encoder.set_bitrate(opus::Bitrate::Bits(24_000)).unwrap();
        encoder.set_inband_fec(true).unwrap();
        encoder.set_packet_loss_perc(20).unwrap();
        (0..count)
            .map(|packet| {
                let samples: Vec<f32> = (packet * FRAME..(packet + 1) * FRAME).map(buzz).collect();
                encoder.encode_vec_float(&samples, 1275).unwrap()
            })
            .collect()
    }

    fn record(skip: &[usize]) -> Recording {
        let mut recorder = Recorder::new(Keep::Samples).unwrap();
        let start = Instant::now();
        for (index, payload) in packets(50).iter().enumerate() {
            if !skip.contains(&index) {
                let arrival = start + Duration::from_millis(20 * index as u64);
                // Both counters wrap on the way.
                let sequence = 65_530_u16.wrapping_add(index as u16);
                let timestamp = (u32::MAX - 9600).wrapping_add((index * FRAME) as u32);
                recorder.receive(sequence, timestamp, payload, arrival);
            }
        }
        recorder.recording().clone()
    }

    #[test]
    fn a_whole_stream_is_decoded_in_place() {
        let recording = record(&[]);
        assert_eq!(recording.samples.len(), 50 * FRAME);
        assert_eq!((recording.lost, recording.late, recording.malformed), (0, 0, 0));
        let original: Vec<f32> = (9600..48_000).map(buzz).collect();
        assert!((dbfs(&recording.samples[9600..]) - dbfs(&original)).abs() < 1.5);
        assert_eq!(recording.duration(), Duration::from_secs(1));
        assert!(recording.sounding() > Duration::from_millis(900));
    }

    #[test]
    fn without_samples_the_same_packets_sound_and_are_lost() {
        let (mut whole, mut light) =
            (Recorder::new(Keep::Samples).unwrap(), Recorder::new(Keep::Nothing).unwrap());
        let silence = crate::clip::Clip::silence().unwrap().to_vec();
        let sound = packets(25);
        let all = std::iter::repeat_n(&silence, 30).chain(&sound);
        for (index, payload) in all.enumerate().filter(|(index, _)| *index != 40) {
            let arrival = Instant::now();
            for recorder in [&mut whole, &mut light] {
                recorder.receive(index as u16, (index * FRAME) as u32, payload, arrival);
            }
        }
        let (whole, light) = (whole.recording(), light.recording());
        assert!(light.samples.is_empty());
        assert_eq!((light.lost, whole.lost), (1, 1));
        assert_eq!(light.last_sound_at, whole.last_sound_at);
        assert_eq!(light.arrival_of(960 * 35), whole.arrival_of(960 * 35));
        let sounding =
            |recording: &Recording| recording.packets.iter().filter(|packet| packet.sounds).count();
        assert!(sounding(light) >= 20 && sounding(light).abs_diff(sounding(whole)) <= 1);
    }

    #[test]
    fn arrivals_are_found_by_timestamp_across_the_wrap() {
        let recording = record(&[]);
        let start = recording.packets[0].arrival;
        let at = |offset: u32| recording.arrival_of((u32::MAX - 9600).wrapping_add(offset));
        assert_eq!(at(0), Some(start));
        assert_eq!(at(959), Some(start));
        assert_eq!(at(960 * 20), Some(start + Duration::from_millis(400)));
        assert_eq!(at(960 * 50), None);
        assert_eq!(recording.from_timestamp(u32::MAX - 9600 + 960).unwrap().len(), 49 * FRAME);
    }

    #[test]
    fn lost_packets_are_concealed_and_the_timeline_holds() {
        for skip in [&[20][..], &[20, 21, 22], &[20, 21, 22, 23, 24, 25, 26, 27, 28, 29]] {
            let recording = record(skip);
            assert_eq!(recording.lost, skip.len() as u64);
            assert_eq!(recording.samples.len(), 50 * FRAME);
            let level =
                |packet: usize| dbfs(&recording.samples[packet * FRAME..(packet + 1) * FRAME]);
            // The first is guessed, the last comes back from the redundancy in its successor.
            let (first, last) = (skip[0], skip[skip.len() - 1]);
            assert!(level(first) > -35.0, "{skip:?}: {}", level(first));
            assert!(level(last) > -35.0, "{skip:?}: {}", level(last));
            if skip.len() == 10 {
                // Guesses end after 100 ms, so only the redundancy can have been heard there.
                assert!(level(last - 1) < -90.0, "{}", level(last - 1));
            }
        }
    }

    #[test]
    fn a_pause_in_the_timestamps_is_silence() {
        let mut recorder = Recorder::new(Keep::Samples).unwrap();
        let packets = packets(2);
        recorder.receive(1, 0, &packets[0], Instant::now());
        recorder.receive(2, 48_000, &packets[1], Instant::now());
        let recording = recorder.recording();
        assert_eq!(recording.lost, 0);
        assert_eq!(recording.samples.len(), 48_000 + FRAME);
        assert!(recording.samples[FRAME..48_000].iter().all(|&sample| sample == 0.0));
    }

    #[test]
    fn packets_behind_the_times_are_counted_and_dropped() {
        let mut recorder = Recorder::new(Keep::Samples).unwrap();
        let packets = packets(3);
        recorder.receive(5, 9600, &packets[0], Instant::now());
        recorder.receive(4, 8640, &packets[1], Instant::now());
        recorder.receive(6, 10_560, &[], Instant::now());
        let recording = recorder.recording();
        assert_eq!((recording.late, recording.malformed, recording.packets.len()), (1, 1, 1));
    }

    #[test]
    fn what_was_overtaken_is_late_and_not_lost() {
        let mut recorder = Recorder::new(Keep::Nothing).unwrap();
        let packets = packets(6);
        // 65534 never comes; 65535 is overtaken, and comes twice.
        for sequence in [65_532_u16, 65_533, 0, 65_535, 1, 65_535] {
            let index = usize::from(sequence.wrapping_sub(65_532));
            let timestamp = (index * FRAME) as u32;
            recorder.receive(sequence, timestamp, &packets[index], Instant::now());
        }
        let recording = recorder.recording();
        assert_eq!((recording.lost, recording.late, recording.packets.len()), (1, 2, 4));
        assert_eq!(recording.concealed, 1);
    }

    #[test]
    fn what_never_comes_or_comes_too_late_is_concealed() {
        let mut recorder = Recorder::new(Keep::Nothing).unwrap();
        let (packets, start) = (packets(6), Instant::now());
        // 2 never comes, 3 is overtaken by a little and 4 by too much, 5 is late by itself.
        for (index, delay_ms) in [(0, 0), (1, 0), (5, 150), (3, 90), (4, 200)] {
            let arrival = start + Duration::from_millis(20 * index as u64 + delay_ms);
            recorder.receive(index as u16, (index * FRAME) as u32, &packets[index], arrival);
        }
        let recording = recorder.recording();
        assert_eq!((recording.lost, recording.late, recording.concealed), (1, 2, 3));
    }

    proptest! {
        #[test]
        fn no_packets_break_the_recorder(
            packets in prop::collection::vec(
                (any::<u16>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..40)),
                0..20,
            ),
        ) {
            let mut recorder = Recorder::new(Keep::Samples).unwrap();
            for (sequence, timestamp, payload) in &packets {
                recorder.receive(*sequence, *timestamp, payload, Instant::now());
            }
            let recording = recorder.recording();
            prop_assert!(recording.samples.len() <= MAX_RECORDED);
            for packet in &recording.packets {
                prop_assert!(packet.position + packet.samples <= recording.samples.len());
                prop_assert!(recording.arrival_of(packet.rtp_timestamp).is_some());
            }
        }
    }
}
