//! Makes sound a little shorter or longer without a click, and goes on with it when it stops.
//!
//! All three rest on one observation: voiced speech repeats itself every pitch period. Leaving out
//! one period, playing one twice, or repeating the last one while nothing comes is hardly heard when
//! the joint is blended (overlap-add by waveform similarity: Verhelst and Roelands, "An overlap-add
//! technique based on waveform similarity", ICASSP 1993). In silence any length will do.
//!
//! 48 kHz mono. Nothing here allocates.

/// Samples over which two pieces are blended and compared: 5 ms.
pub const BLEND: usize = 240;
/// Shortest piece that is left out or repeated: 5 ms, a few pitch periods of a high voice.
const SHORTEST: usize = 240;
/// Longest piece that is left out or repeated: 15 ms, one pitch period of the lowest voice.
pub const LONGEST: usize = 720;
/// Samples that a search for the best piece looks at.
pub const VIEW: usize = LONGEST + BLEND;
/// The search looks at every fourth place and sample first: speech has little above 6 kHz.
const COARSE: usize = 4;
/// Mean power below which sound is silence: -55 dBFS.
const QUIET_POWER: f32 = 3.2e-6;
/// Samples for which a missing end is made up, and how many of them at full level: 100 and 20 ms.
const BRIDGE: usize = 4_800;
const BRIDGE_LEVEL: usize = 960;

/// Whether there is nothing to hear in `samples`.
#[must_use]
pub fn is_quiet(samples: &[f32]) -> bool {
    let energy: f32 = samples.iter().map(|sample| sample * sample).sum();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand samples at most")]
    let count = samples.len() as f32;
    energy <= QUIET_POWER * count
}

/// A piece that can be left out or repeated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// Its length in samples.
    pub length: usize,
    /// Correlation of the two ends that are going to be joined, 1 when they are equal. Silence is
    /// like silence.
    pub likeness: f32,
}

/// The piece at the start of `view` whose end is most like its beginning.
#[must_use]
pub fn piece_at_start(view: &[f32; VIEW]) -> Piece {
    if is_quiet(view) {
        return Piece { length: LONGEST, likeness: 1.0 };
    }
    most_alike(|length, stride| likeness(&view[..BLEND], &view[length..length + BLEND], stride))
}

/// The piece at the end of `view` whose beginning is most like its end.
fn piece_at_end(view: &[f32; VIEW]) -> Piece {
    let end = &view[VIEW - BLEND..];
    most_alike(|length, stride| {
        let start = VIEW - BLEND - length;
        likeness(end, &view[start..start + BLEND], stride)
    })
}

fn most_alike(likeness: impl Fn(usize, usize) -> f32) -> Piece {
    let best = |lengths: &mut dyn Iterator<Item = usize>, stride: usize| {
        let mut best = Piece { length: LONGEST, likeness: -1.0 };
        for length in lengths {
            let found = likeness(length, stride);
            if found > best.likeness {
                best = Piece { length, likeness: found };
            }
        }
        best
    };
    let rough = best(&mut (SHORTEST..=LONGEST).step_by(COARSE), COARSE).length;
    let near = (rough - COARSE).max(SHORTEST)..=(rough + COARSE).min(LONGEST);
    best(&mut { near }, 1)
}

/// Normalised correlation of every `stride`-th sample.
fn likeness(one: &[f32], other: &[f32], stride: usize) -> f32 {
    let (mut product, mut power_one, mut power_other) = (0.0_f32, 1e-9_f32, 1e-9_f32);
    for (a, b) in one.iter().zip(other).step_by(stride) {
        product += a * b;
        power_one += a * a;
        power_other += b * b;
    }
    product / (power_one * power_other).sqrt()
}

/// Blends `from` into `to`, in place of `to`.
pub fn blend<'a>(from: impl IntoIterator<Item = f32>, to: impl Iterator<Item = &'a mut f32>) {
    for (index, (before, after)) in from.into_iter().zip(to).take(BLEND).enumerate() {
        *after = before + (*after - before) * weight(index);
    }
}

/// Raises samples from nothing to themselves.
pub fn fade_in(samples: &mut [f32]) {
    for (index, sample) in samples.iter_mut().take(BLEND).enumerate() {
        *sample *= weight(index);
    }
}

/// Lowers the end of samples to nothing.
pub fn fade_out(samples: &mut [f32]) {
    for (index, sample) in samples.iter_mut().rev().take(BLEND).enumerate() {
        *sample *= weight(index);
    }
}

#[expect(clippy::cast_precision_loss, reason = "both are below 241")]
fn weight(index: usize) -> f32 {
    (index + 1) as f32 / (BLEND + 1) as f32
}

/// Remembers what was played and goes on with it when nothing more comes.
#[derive(Debug)]
pub struct Bridge {
    past: [f32; VIEW],
    /// Length of the repeated piece and samples made up so far, while that goes on.
    run: Option<(usize, usize)>,
}

impl Default for Bridge {
    fn default() -> Self {
        Self { past: [0.0; VIEW], run: None }
    }
}

impl Bridge {
    /// These samples were played.
    pub fn remember(&mut self, samples: &[f32]) {
        let new = samples.len().min(VIEW);
        self.past.copy_within(new.., 0);
        self.past[VIEW - new..].copy_from_slice(&samples[samples.len() - new..]);
    }

    /// Whether there is nothing to hear in what was played last.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        is_quiet(&self.past)
    }

    /// Whether sound is being made up.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Makes up what follows. False when it has faded to silence by the end of `samples`.
    pub fn go_on(&mut self, samples: &mut [f32]) -> bool {
        let (length, mut done) = self.run.unwrap_or_else(|| (piece_at_end(&self.past).length, 0));
        for sample in samples {
            *sample = self.past[VIEW - length + done % length] * level(done);
            done += 1;
        }
        self.run = (done < BRIDGE).then_some((length, done));
        self.run.is_some()
    }

    /// Real samples are here again: blends into them what would have followed.
    pub fn arrive(&mut self, samples: &mut [f32]) {
        if let Some((length, done)) = self.run.take() {
            let past = &self.past;
            let made_up = (done..).map(|at| past[VIEW - length + at % length] * level(at));
            blend(made_up, samples.iter_mut());
        }
    }
}

/// Level of the made-up sample number `index`.
#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn level(index: usize) -> f32 {
    let left = BRIDGE.saturating_sub(index) as f32 / (BRIDGE - BRIDGE_LEVEL) as f32;
    left.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hertz: f32, length: usize) -> Vec<f32> {
        let step = std::f32::consts::TAU * hertz / 48_000.0;
        (0..length).map(|n| 0.5 * (n as f32 * step).sin()).collect()
    }

    fn largest_step(samples: &[f32]) -> f32 {
        samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn the_piece_of_a_tone_is_a_whole_number_of_its_periods() {
        for hertz in [90.0, 150.0, 220.0, 400.0] {
            let sound = tone(hertz, VIEW);
            let view = sound.first_chunk().unwrap();
            for piece in [piece_at_start(view), piece_at_end(view)] {
                let periods = piece.length as f32 * hertz / 48_000.0;
                assert!((periods - periods.round()).abs() < 0.02, "{hertz} Hz: {piece:?}");
                assert!(piece.likeness > 0.99, "{piece:?}");
            }
        }
    }

    #[test]
    fn a_tone_that_stops_goes_on_without_a_click_and_is_silent_after_100_ms() {
        let sound = tone(150.0, 2_000);
        let mut bridge = Bridge::default();
        bridge.remember(&sound);
        let mut heard = sound.clone();
        for block in 0..5 {
            let mut made_up = [0.0; 960];
            assert_eq!(bridge.go_on(&mut made_up), block < 4);
            heard.extend_from_slice(&made_up);
        }
        assert!(largest_step(&heard) < 1.1 * largest_step(&sound), "{}", largest_step(&heard));
        let power = |range: std::ops::Range<usize>| {
            heard[range.clone()].iter().map(|s| s * s).sum::<f32>() / range.len() as f32
        };
        assert!((power(2_000..2_960) / power(1_040..2_000) - 1.0).abs() < 0.05);
        assert!(heard[heard.len() - 1].abs() < 0.001);
    }

    #[test]
    fn sound_that_comes_back_is_blended_in() {
        let sound = tone(150.0, 4_000);
        let mut bridge = Bridge::default();
        bridge.remember(&sound);
        let mut heard = sound.clone();
        let mut made_up = [0.0; 700];
        bridge.go_on(&mut made_up);
        heard.extend_from_slice(&made_up);
        // It comes back in another phase.
        let mut real = sound[77..1_037].to_vec();
        bridge.arrive(&mut real);
        heard.extend_from_slice(&real);
        assert!(largest_step(&heard) < 1.5 * largest_step(&sound), "{}", largest_step(&heard));
        assert!(!bridge.is_running());
    }
}
