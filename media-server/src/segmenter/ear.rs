//! One peer's ear: the detector and the segmenter behind a stream of decoded frames.
//!
//! Frames come in their own size and with gaps (DTX, lost packets); the detector wants chunks of
//! 512 samples without any. This file is the joint between the two.

use inference::vad::{CHUNK_SAMPLES, Vad, VadStream};

use super::{Chunk, Event, InvalidSegmenterConfig, Segmenter, SegmenterConfig};

/// The longest gap that the detector hears as silence, 1 s at 16 kHz. After a longer one it begins
/// anew, which costs nothing: by then no segment is open.
const LONGEST_GAP: u64 = 16_000;

/// Finds the segments in one peer's decoded speech. Nothing is allocated per frame, except that the
/// buffer of an open segment grows.
pub struct Ear {
    vad: VadStream,
    segmenter: Segmenter,
    pending: [f32; CHUNK_SAMPLES],
    filled: usize,
    /// Position of the first pending sample; `None` before the first frame.
    position: Option<u64>,
}

impl Ear {
    /// An ear for one peer.
    ///
    /// # Errors
    /// [`InvalidSegmenterConfig`] when the numbers contradict each other.
    pub fn new(vad: &Vad, config: SegmenterConfig) -> Result<Self, InvalidSegmenterConfig> {
        Ok(Self {
            vad: vad.stream(),
            segmenter: Segmenter::new(config)?,
            pending: [0.0; CHUNK_SAMPLES],
            filled: 0,
            position: None,
        })
    }

    /// Hears `samples_16k` (mono, -1 to 1, any number), the first of which is at position `at`: an
    /// extended RTP timestamp of 48 kHz divided by 3. A gap since the previous frame is silence; samples
    /// that were already heard are skipped.
    pub fn hear(&mut self, at: u64, samples_16k: &[f32], mut on_event: impl FnMut(Event)) {
        let expected = self.position.map_or(at, |position| position + self.filled as u64);
        let already_heard = expected.saturating_sub(at).min(samples_16k.len() as u64) as usize;
        let gap = at.saturating_sub(expected);
        if gap > LONGEST_GAP {
            // A chunk less, so that completing one does not reach into what is heard next.
            self.feed_silence(LONGEST_GAP - CHUNK_SAMPLES as u64, &mut on_event);
            self.complete_chunk(&mut on_event);
            self.vad.reset();
            self.position = None;
        } else {
            self.feed_silence(gap, &mut on_event);
        }
        self.position.get_or_insert(at);
        self.feed(&samples_16k[already_heard..], &mut on_event);
    }

    /// The stream is over: ends what is open. The ear is as new afterwards.
    pub fn finish(&mut self, mut on_event: impl FnMut(Event)) {
        self.complete_chunk(&mut on_event);
        self.segmenter.finish(on_event);
        self.vad.reset();
        self.position = None;
    }

    /// Whether a segment is open.
    pub fn is_speaking(&self) -> bool {
        self.segmenter.is_speaking()
    }

    fn feed(&mut self, mut samples: &[f32], on_event: &mut impl FnMut(Event)) {
        while !samples.is_empty() {
            let missing = CHUNK_SAMPLES - self.filled;
            let (head, rest) = samples.split_at(missing.min(samples.len()));
            self.pending[self.filled..][..head.len()].copy_from_slice(head);
            self.filled += head.len();
            samples = rest;
            if self.filled == CHUNK_SAMPLES {
                let at = self.position.unwrap_or(0);
                let probability = self.vad.step(&self.pending);
                let chunk = Chunk { at, probability, samples_16k: &self.pending };
                self.segmenter.push(chunk, &mut *on_event);
                self.position = Some(at + CHUNK_SAMPLES as u64);
                self.filled = 0;
            }
        }
    }

    fn feed_silence(&mut self, mut length: u64, on_event: &mut impl FnMut(Event)) {
        const ZEROS: [f32; CHUNK_SAMPLES] = [0.0; CHUNK_SAMPLES];
        while length > 0 {
            let part = length.min(CHUNK_SAMPLES as u64);
            self.feed(&ZEROS[..part as usize], on_event);
            length -= part;
        }
    }

    fn complete_chunk(&mut self, on_event: &mut impl FnMut(Event)) {
        if self.filled > 0 {
            self.feed_silence((CHUNK_SAMPLES - self.filled) as u64, on_event);
        }
    }
}
