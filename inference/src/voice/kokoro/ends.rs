//! What happens to a synthesised clause before it is heard, piece by piece: the silence around it
//! goes, a pause that suits its punctuation follows it, its ends are faded, and nothing clips.

/// Kokoro's sample rate in Hz.
pub(super) const SAMPLE_RATE_HZ: u32 = 24_000;
const PER_MS: usize = SAMPLE_RATE_HZ as usize / 1000;
/// Below this a sample counts as silence (about -46 dBFS; the model's floor is lower).
const SILENCE: f32 = 0.005;
/// Kept around the audible part: consonants begin and end softly.
const LEAD: usize = 30 * PER_MS;
const TAIL: usize = 60 * PER_MS;
const FADE: usize = 5 * PER_MS;
/// From here on loud samples are bent, so that none reaches one.
const KNEE: f32 = 0.9;

/// The two ends of a clause, of which one piece after the other is pushed.
pub(super) struct Ends {
    /// Silence that goes before the clause, in samples.
    pause: usize,
    begun: bool,
    /// What may be the silence at the end.
    held: Vec<f32>,
}

impl Ends {
    /// A clause that follows a pause of so many samples.
    pub(super) fn after(pause: usize) -> Self {
        Self { pause, begun: false, held: Vec::new() }
    }

    /// Takes the next piece and gives back what can be heard now.
    pub(super) fn push(&mut self, samples: Vec<f32>) -> Vec<f32> {
        self.held.extend(samples.into_iter().map(bend));
        let is_audible = |sample: &f32| sample.abs() > SILENCE;
        if !self.begun {
            let Some(first) = self.held.iter().position(is_audible) else {
                self.held.drain(..self.held.len().saturating_sub(LEAD));
                return Vec::new();
            };
            self.held.drain(..first.saturating_sub(LEAD));
            fade_in(&mut self.held);
            self.begun = true;
            self.held.splice(0..0, std::iter::repeat_n(0.0, std::mem::take(&mut self.pause)));
        }
        // The last samples are kept in any case: they are faded if nothing follows.
        let audible = self.held.iter().rposition(is_audible).map_or(0, |last| last + 1);
        let rest = self.held.split_off(audible.min(self.held.len().saturating_sub(FADE)));
        std::mem::replace(&mut self.held, rest)
    }

    /// The end of the clause. Nothing comes of one that was silent throughout.
    pub(super) fn finish(&mut self) -> Vec<f32> {
        let mut end = std::mem::take(&mut self.held);
        if !self.begun {
            return Vec::new();
        }
        let audible = end.iter().rposition(|sample| sample.abs() > SILENCE).map_or(0, |at| at + 1);
        end.truncate(audible + TAIL);
        end.reverse();
        fade_in(&mut end);
        end.reverse();
        end
    }
}

fn fade_in(samples: &mut [f32]) {
    let fade = FADE.min(samples.len());
    for (index, sample) in samples[..fade].iter_mut().enumerate() {
        *sample *= index as f32 / fade as f32;
    }
}

/// Leaves samples up to the knee alone and bends louder ones smoothly below one.
fn bend(sample: f32) -> f32 {
    let over = sample.abs() - KNEE;
    if over <= 0.0 {
        return sample;
    }
    let room = 1.0 - KNEE;
    (KNEE + room * (over / (over + room))).copysign(sample)
}

/// Samples of silence after a clause that more text follows, over and above the kept tail.
pub(super) fn pause_after(clause: &str, speed: f32) -> usize {
    let mark = clause.trim_end_matches(['"', '\'', ')', '”', '»']).chars().next_back();
    let milliseconds = match mark {
        Some('.' | '!' | '?' | '…' | '।') => 220,
        Some(',' | ';' | ':' | '—' | '–') => 90,
        // Cut within a phrase: no pause that the speaker would not make.
        _ => 0,
    };
    (milliseconds as f32 / speed) as usize * PER_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clause() -> Vec<f32> {
        let mut samples = vec![0.0; 24_000];
        samples.extend(vec![0.5; 12_000]);
        samples.extend(vec![0.001; 4_000]);
        samples.extend(vec![0.5; 2_000]);
        samples.extend(vec![0.001; 24_000]);
        samples
    }

    fn in_pieces(samples: &[f32], size: usize, pause: usize) -> Vec<f32> {
        let mut ends = Ends::after(pause);
        let mut heard: Vec<f32> =
            samples.chunks(size).flat_map(|piece| ends.push(piece.to_vec())).collect();
        heard.extend(ends.finish());
        heard
    }

    #[test]
    fn the_silence_around_a_clause_goes_the_one_inside_stays_and_the_ends_are_faded() {
        let heard = in_pieces(&clause(), usize::MAX, 0);
        assert_eq!(heard.len(), LEAD + 12_000 + 4_000 + 2_000 + TAIL);
        assert_eq!((heard[0], heard[heard.len() - 1]), (0.0, 0.0));
        assert_eq!((heard[LEAD], heard[LEAD + 5_000]), (0.5, 0.5));
    }

    #[test]
    fn it_sounds_the_same_in_pieces_of_any_size() {
        let whole = in_pieces(&clause(), usize::MAX, 480);
        assert_eq!(whole[..480], [0.0; 480]);
        for size in [1_000, 2_400, 7_777, 24_000] {
            assert_eq!(in_pieces(&clause(), size, 480), whole, "{size}");
        }
    }

    #[test]
    fn nothing_clips_and_silence_becomes_nothing() {
        let loud: Vec<f32> = (0..9000).map(|index| 1.8 * (index as f32 * 0.1).sin()).collect();
        assert!(in_pieces(&loud, 1_000, 0).iter().all(|sample| sample.abs() < 0.995));
        assert!(in_pieces(&[0.001; 5000], 1_000, 480).is_empty());
        assert!(in_pieces(&[], 1_000, 480).is_empty());
    }

    #[test]
    fn a_sentence_is_followed_by_a_longer_pause_than_a_comma() {
        let (sentence, comma) = (pause_after("Sí.\"", 1.0), pause_after("Sí,", 1.0));
        assert!(sentence > comma && comma > pause_after("sí", 1.0));
        assert_eq!(pause_after("Sí.", 2.0), sentence / 2);
    }
}
