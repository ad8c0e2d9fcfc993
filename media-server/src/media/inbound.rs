//! What a peer says, from RTP packets to the recogniser's ring and to the mixer.
//!
//! Packet order is the matter of [`super::reorder`], gaps of [`super::timeline`], frames of
//! [`super::heard`], timing for the mix of [`super::jitter`]; this file strings them together
//! around the decoder.

use std::time::{Duration, Instant};

use super::activity::Activity;
use super::arrivals::{Arrival, Arrivals};
use super::codec::{self, Decoder};
use super::frames::{HeardWriter, PLAYOUT_SAMPLES};
use super::heard::HeardAssembler;
use super::jitter::Jitter;
use super::reorder::{Due, Fate, Packet, Reorder};
use super::sequence::Extender;
use super::stats::Counters;
use super::stretch;
use super::timeline::{Fill, Timeline};
use crate::transport::{RtpIn, TransportError};

/// Twenty milliseconds of silence, the largest piece that is fed at once.
const SILENCE: [f32; PLAYOUT_SAMPLES] = [0.0; PLAYOUT_SAMPLES];

/// Packets that may be passed on as they came: so many in every tick of 20 ms, and so many at once.
/// A sender of packets of 10 ms needs two; more would let one peer make the worker send without end.
const PASSED_ON: u32 = 3;
const PASSED_ON_AT_ONCE: u32 = 32;

/// Ticks of 20 ms between two records of the jitter buffer's target.
const TARGET_EVERY: u32 = 50;

/// The receiving side of one peer.
pub struct Inbound {
    sequences: Extender<16>,
    timestamps: Extender<32>,
    reorder: Reorder,
    timeline: Timeline,
    decoder: Decoder,
    heard: HeardAssembler,
    jitter: Jitter,
    activity: Activity,
    /// Packets since the last tick, and in the tick before it.
    arriving: Arrivals,
    arrived: Arrivals,
    /// Packets that may still be passed on.
    credit: u32,
    pcm: Vec<f32>,
    /// What is heard next follows silence that was put in place of lost sound.
    fade_in: bool,
    ticks: u32,
    /// Ring overflows that the counters know.
    told_dropped: u64,
    /// Jitter-buffer underruns that the counters know.
    told_underruns: u64,
}

impl Inbound {
    /// The receiving side that writes into `writer`.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when the codec or the resampler cannot be made.
    pub fn new(writer: HeardWriter) -> Result<Self, TransportError> {
        let failed = |what: &str, why: String| TransportError::Stack(format!("{what}: {why}"));
        Ok(Self {
            sequences: Extender::default(),
            timestamps: Extender::default(),
            reorder: Reorder::default(),
            timeline: Timeline::default(),
            decoder: Decoder::new().map_err(|error| failed("opus decoder", error.to_string()))?,
            heard: HeardAssembler::new(writer)
                .map_err(|error| failed("resampler", error.to_string()))?,
            jitter: Jitter::default(),
            activity: Activity::default(),
            arriving: Arrivals::default(),
            arrived: Arrivals::default(),
            credit: PASSED_ON_AT_ONCE,
            pcm: Vec::with_capacity(4 * 5_760),
            fade_in: false,
            ticks: 0,
            told_dropped: 0,
            told_underruns: 0,
        })
    }

    /// Takes a packet and decodes what is due.
    pub fn packet(&mut self, packet: RtpIn, counters: &Counters) {
        counters.packets_in.add(1);
        let RtpIn { arrived, sequence, timestamp, .. } = packet;
        let packet = Packet {
            sequence: self.sequences.extend(u64::from(packet.sequence)),
            timestamp: self.timestamps.extend(u64::from(packet.timestamp)),
            arrived,
            payload: packet.payload,
        };
        if let Some(samples) = codec::packet_samples(&packet.payload)
            && self.credit > 0
            && self.reorder.is_new(packet.sequence)
        {
            self.credit -= 1;
            let samples = u32::try_from(samples).expect("a packet lasts 120 ms at most");
            self.arriving.push(Arrival { sequence, timestamp, samples, payload: &packet.payload });
        }
        match self.reorder.push(packet) {
            Fate::Kept => {}
            Fate::Late => counters.late.add(1),
            Fate::Duplicate => counters.duplicates.add(1),
        }
        self.decode_due(arrived, counters);
    }

    /// Every 20 ms: gives up on packets that wait too long, feeds silence when nothing comes.
    pub fn tick(&mut self, now: Instant, counters: &Counters) {
        self.ticks = self.ticks.wrapping_add(1);
        self.activity.tick();
        self.arrived.clear();
        std::mem::swap(&mut self.arriving, &mut self.arrived);
        self.credit = (self.credit + PASSED_ON).min(PASSED_ON_AT_ONCE);
        if self.ticks.is_multiple_of(TARGET_EVERY) && self.jitter.is_playing() {
            let micros = self.jitter.target() as u64 * 1_000 / 48;
            counters.jitter_targets.record(Duration::from_micros(micros));
        }
        self.decode_due(now, counters);
        if self.reorder.is_waiting() {
            return;
        }
        if let Some((start, samples)) = self.timeline.idle(now) {
            self.silence(start, samples, now);
        }
        self.tell(counters);
    }

    /// The original's next 20 ms for the mixer; false when it is silent.
    pub fn pull_original(&mut self, now: Instant, block: &mut [f32; PLAYOUT_SAMPLES]) -> bool {
        self.jitter.pull(now, block)
    }

    /// The packets that came between the last two ticks, to be passed on as they are.
    #[must_use]
    pub fn arrivals(&self) -> &Arrivals {
        &self.arrived
    }

    /// Whether the peer has something to say.
    #[must_use]
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    fn decode_due(&mut self, now: Instant, counters: &Counters) {
        while let Some(due) = self.reorder.pop(now) {
            self.decode(&due, now, counters);
        }
        self.tell(counters);
    }

    fn decode(&mut self, due: &Due, now: Instant, counters: &Counters) {
        let Due { packet, lost } = due;
        let payload = packet.payload.as_ref();
        counters.lost.add(*lost);
        // Padding alone carries no sound and takes no time.
        if payload.is_empty() {
            return;
        }
        let samples = codec::packet_samples(payload);
        let duration = samples.map_or_else(|| self.timeline.packet_duration(), |n| n as u64);
        let has_fec = *lost > 0 && samples.is_some() && codec::has_fec(payload);
        let arrived = packet.arrived;
        let fill = self.timeline.packet(arrived, packet.timestamp, duration, *lost, has_fec);
        self.fill(&fill, payload, arrived, counters);

        self.pcm.clear();
        let decoded = samples.map(|_| self.decoder.decode(payload, &mut self.pcm));
        let concealed = !matches!(decoded, Some(Ok(())));
        if concealed {
            counters.damaged.add(1);
            self.decoder.conceal(length(duration), &mut self.pcm);
        }
        self.activity.packet(&self.pcm);
        let is_due_in_full = self.pcm.len() as u64 == duration;
        if is_due_in_full && stretch::is_quiet(&self.pcm) && self.timeline.pay_with_quiet(duration)
        {
            return;
        }
        self.jitter.packet(now, packet.timestamp);
        self.hear(fill.packet_start, arrived, concealed);
    }

    fn fill(&mut self, fill: &Fill, payload: &[u8], arrived: Instant, counters: &Counters) {
        let mut time = fill.start;
        if fill.conceal > 0 {
            self.pcm.clear();
            self.decoder.conceal(length(fill.conceal), &mut self.pcm);
            if fill.silence > 0 {
                stretch::fade_out(&mut self.pcm);
            }
            self.hear(time, arrived, true);
            time += fill.conceal;
            counters.concealed.add(fill.conceal);
        }
        self.silence(time, fill.silence, arrived);
        self.fade_in = fill.silence > 0 && fill.conceal > 0;
        time += fill.silence;
        if fill.recover > 0 {
            self.pcm.clear();
            self.decoder.recover(payload, length(fill.recover), &mut self.pcm);
            self.hear(time, arrived, true);
            counters.fec_recovered.add(1);
        }
    }

    /// Passes on what is in `pcm`.
    fn hear(&mut self, time: u64, arrived: Instant, concealed: bool) {
        if std::mem::take(&mut self.fade_in) {
            stretch::fade_in(&mut self.pcm);
        }
        self.heard.push(time, &self.pcm, arrived, concealed);
        self.jitter.push(&self.pcm);
    }

    fn silence(&mut self, mut time: u64, mut samples: u64, now: Instant) {
        while samples > 0 {
            let piece = length(samples).min(SILENCE.len());
            self.heard.push(time, &SILENCE[..piece], now, false);
            self.jitter.push(&SILENCE[..piece]);
            time += piece as u64;
            samples -= piece as u64;
        }
    }

    fn tell(&mut self, counters: &Counters) {
        counters.heard_dropped.add(self.heard.dropped() - self.told_dropped);
        self.told_dropped = self.heard.dropped();
        counters.underruns.add(self.jitter.underruns() - self.told_underruns);
        self.told_underruns = self.jitter.underruns();
    }
}

fn length(samples: u64) -> usize {
    usize::try_from(samples).expect("a gap is at most two seconds long")
}

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
