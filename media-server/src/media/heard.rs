//! Turns a peer's decoded speech into the frames of its heard ring: 48 kHz to 16 kHz, in pieces of
//! 20 ms, each with its time on the sender's clock.

use std::time::Instant;

use ringbuf::traits::Producer as _;

use super::frames::{HEARD_SAMPLES, HeardFrame, HeardWriter};
use crate::resample::{ResampleError, Resampler};

/// Input samples per output sample.
const RATIO: u64 = 3;

/// Assembles the frames of one peer.
pub struct HeardAssembler {
    writer: HeardWriter,
    resampler: Resampler,
    /// The resampler's delay in input samples.
    delay: u64,
    /// Output samples that make no whole frame yet.
    pending: Vec<f32>,
    /// Input samples taken, output samples given, since the start.
    taken: u64,
    given: u64,
    /// Time of the next input sample.
    next_time: u64,
    /// Whether something concealed is in the frame that is being assembled.
    concealed: bool,
    dropped: u64,
}

impl HeardAssembler {
    /// An assembler that writes into `writer`.
    ///
    /// # Errors
    /// What the resampler says; not for these rates.
    pub fn new(writer: HeardWriter) -> Result<Self, ResampleError> {
        let resampler = Resampler::new(48_000, 16_000)?;
        let delay = resampler.delay_samples() as u64 * RATIO;
        Ok(Self {
            writer,
            resampler,
            delay,
            pending: Vec::with_capacity(4 * HEARD_SAMPLES),
            taken: 0,
            given: 0,
            next_time: 0,
            concealed: false,
            dropped: 0,
        })
    }

    /// Takes samples (48 kHz mono) whose first one has the extended RTP timestamp `time`. Where
    /// that is not the end of the samples before, what makes no whole frame is dropped, so that no
    /// frame straddles the gap.
    pub fn push(&mut self, time: u64, samples: &[f32], arrived: Instant, concealed: bool) {
        if time != self.next_time {
            self.pending.clear();
            self.concealed = false;
        }
        self.next_time = time + samples.len() as u64;
        self.concealed |= concealed;
        self.taken += samples.len() as u64;
        let before = self.pending.len();
        self.resampler.process(samples, &mut self.pending);
        self.given += (self.pending.len() - before) as u64;

        let mut done = 0;
        while let Some(frame) = self.pending[done..].first_chunk::<HEARD_SAMPLES>() {
            let index = self.given - (self.pending.len() - done) as u64;
            let heard = HeardFrame {
                rtp_time: self.time_of(index),
                arrived,
                concealed: std::mem::take(&mut self.concealed),
                samples: *frame,
            };
            if self.writer.try_push(heard).is_err() {
                self.dropped += 1;
            }
            done += HEARD_SAMPLES;
        }
        self.pending.drain(..done);
    }

    /// Frames that found the ring full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Time on the sender's clock of the sound in output sample `index`: the resampler gives it
    /// `delay` later than it took it.
    fn time_of(&self, index: u64) -> u64 {
        (self.next_time + index * RATIO).saturating_sub(self.taken + self.delay)
    }
}

#[cfg(test)]
mod tests {
    use ringbuf::traits::Consumer as _;

    use super::*;
    use crate::media::frames::{HeardReader, TICKS_PER_FRAME, heard_ring};

    fn frames(reader: &mut HeardReader) -> Vec<HeardFrame> {
        std::iter::from_fn(|| reader.try_pop()).collect()
    }

    #[test]
    fn a_click_is_found_at_its_time_on_the_senders_clock() {
        let (writer, mut reader) = heard_ring(100);
        let mut assembler = HeardAssembler::new(writer).unwrap();
        let start = 1 << 32;
        let mut sound = vec![0.0; 960 * 20];
        sound[5_000..5_030].fill(1.0);
        for (index, piece) in (0u64..).zip(sound.chunks(960)) {
            assembler.push(start + index * 960, piece, Instant::now(), false);
        }
        // The centre of the energy: the click's ringing is symmetric.
        let (mut energy, mut moment) = (0.0, 0.0);
        for frame in frames(&mut reader) {
            for (n, sample) in (0u64..).zip(frame.samples) {
                let power = f64::from(sample * sample);
                energy += power;
                moment += power * ((frame.rtp_time + 3 * n).saturating_sub(start) as f64);
            }
        }
        let centre = moment / energy;
        assert!((centre - 5_014.5).abs() < 3.0, "found at {centre}");
    }

    #[test]
    fn consecutive_frames_are_960_ticks_apart_for_packets_of_any_length() {
        let (writer, mut reader) = heard_ring(100);
        let mut assembler = HeardAssembler::new(writer).unwrap();
        let mut time = 5_000_000;
        for length in [480, 960, 1_920, 2_880, 480, 960, 2_880] {
            assembler.push(time, &vec![0.1; length], Instant::now(), false);
            time += length as u64;
        }
        let frames = frames(&mut reader);
        assert_eq!(frames.len(), 11);
        assert!(
            frames.windows(2).all(|pair| pair[1].rtp_time - pair[0].rtp_time == TICKS_PER_FRAME)
        );
    }

    #[test]
    fn after_a_gap_frames_carry_the_new_time() {
        let (writer, mut reader) = heard_ring(100);
        let mut assembler = HeardAssembler::new(writer).unwrap();
        assembler.push(1_000_000, &[0.0; 480], Instant::now(), true);
        assembler.push(9_000_000, &[0.0; 960], Instant::now(), false);
        assembler.push(9_000_960, &[0.0; 960], Instant::now(), false);
        let frames = frames(&mut reader);
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].rtp_time, 9_000_000 - assembler.delay);
        assert!(!frames[0].concealed);
    }

    #[test]
    fn a_full_ring_drops_and_counts_the_newest() {
        let (writer, mut reader) = heard_ring(2);
        let mut assembler = HeardAssembler::new(writer).unwrap();
        assembler.push(1 << 20, &vec![0.0; 960 * 5], Instant::now(), false);
        assert_eq!((frames(&mut reader).len(), assembler.dropped()), (2, 3));
    }
}
