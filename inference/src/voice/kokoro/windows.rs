//! In which pieces an utterance leaves the vocoder, and how they are joined.

use std::ops::Range;

/// Frames (12.5 ms each) of the first piece, and of the longest. Each is as long as the one before it
/// takes to be heard, with room for a machine that has other work.
const FIRST_FRAMES: usize = 64;
const LONGEST_FRAMES: usize = 192;
/// A rest that is shorter than this is made together with the piece before it.
const SHORTEST_FRAMES: usize = 40;
/// Over how many samples (24 kHz) one piece turns into the next: 5 ms.
pub(super) const SEAM_SAMPLES: usize = 120;

/// The pieces of an utterance of `frames` frames.
pub(super) fn plan(frames: usize) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let (mut start, mut length) = (0, FIRST_FRAMES);
    while start < frames {
        let end = start + length;
        let end = if end + SHORTEST_FRAMES > frames { frames } else { end };
        pieces.push(start..end);
        start = end;
        length = (length + length / 2).min(LONGEST_FRAMES);
    }
    pieces
}

/// Turns the end of one piece into the beginning of the next.
#[derive(Default)]
pub(super) struct Seam(Vec<f32>);

impl Seam {
    /// `samples` are a piece with the first `beyond` samples of the next one.
    pub(super) fn join(&mut self, mut samples: Vec<f32>, beyond: usize) -> Vec<f32> {
        let count = self.0.len();
        for (index, (new, old)) in samples.iter_mut().zip(&self.0).enumerate() {
            let share = (index + 1) as f32 / (count + 1) as f32;
            *new = *new * share + old * (1.0 - share);
        }
        self.0 = samples.split_off(samples.len().saturating_sub(beyond));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_cover_every_frame_once_and_none_is_a_stump() {
        for frames in 1..2_000 {
            let pieces = plan(frames);
            assert_eq!((pieces[0].start, pieces[pieces.len() - 1].end), (0, frames));
            assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start));
            let longest = LONGEST_FRAMES + SHORTEST_FRAMES;
            assert!(pieces.iter().all(|piece| piece.len() <= longest), "{frames}: {pieces:?}");
            if pieces.len() > 1 {
                assert!(pieces.iter().all(|piece| piece.len() >= SHORTEST_FRAMES));
                assert_eq!(pieces[0].len(), FIRST_FRAMES);
            }
        }
        assert!(plan(0).is_empty());
    }

    #[test]
    fn pieces_of_one_signal_join_to_that_signal_and_a_difference_is_blended() {
        let signal: Vec<f32> = (0..1000).map(|sample| (sample as f32 * 0.05).sin()).collect();
        let mut seam = Seam::default();
        let mut joined = seam.join(signal[..400 + 50].to_vec(), 50);
        joined.extend(seam.join(signal[400..].to_vec(), 0));
        assert_eq!(joined.len(), 1000);
        assert!(joined.iter().zip(&signal).all(|(left, right)| (left - right).abs() < 1e-6));

        let mut seam = Seam::default();
        let mut joined = seam.join(vec![0.0; 400 + 50], 50);
        joined.extend(seam.join(vec![1.0; 100], 0));
        assert!(joined.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 0.021));
    }
}
