//! Where the decoder's frames lie between the codes. Latents of codes are interpolated twice: to
//! the frames of a spectrogram at the rate of the codes, and from there to those at the rate of the
//! sound. The ends of both are held. What a frame is made of depends on its place in the whole
//! utterance, so a part of it is interpolated at the places of the whole.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use super::HifiganConfig;

/// Latents that a frame is made of, at most: neighbours.
const LATENTS: usize = 3;

/// Places of codes and frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    per_code: usize,
    stretch: f64,
}

impl Grid {
    pub(super) fn new(config: &HifiganConfig) -> Self {
        let stretch = f64::from(config.sample_rate) / f64::from(config.code_rate);
        Self { per_code: config.frames_per_code, stretch }
    }

    /// Frames of so many codes: none is begun that is not whole.
    pub fn frames(&self, codes: usize) -> usize {
        ((codes * self.per_code) as f64 * self.stretch) as usize
    }

    /// Frames that any `codes` codes in a row have at most, wherever they lie.
    pub fn most_frames(&self, codes: usize) -> usize {
        ((codes * self.per_code) as f64 * self.stretch).ceil() as usize
    }

    /// Codes that a frame takes, which may be less than one.
    pub fn codes_per_frame(&self) -> f64 {
        1.0 / (self.per_code as f64 * self.stretch)
    }

    /// The first code that a frame is made of.
    pub fn first_code(&self, frame: usize) -> usize {
        let (before, _) = split(self.between(frame));
        split(self.within(before)).0
    }

    /// Where a frame lies among those at the rate of the codes.
    fn between(&self, frame: usize) -> f64 {
        (frame as f64 + 0.5) / self.stretch - 0.5
    }

    /// Where a frame at the rate of the codes lies among the codes.
    fn within(&self, frame: usize) -> f64 {
        (frame as f64 + 0.5) / self.per_code as f64 - 0.5
    }

    /// What the latents of a frame are weighted by, from its first code on, in an utterance of
    /// `codes`.
    fn weights(&self, frame: usize, codes: usize) -> (usize, [f32; LATENTS]) {
        let mut weights = [0.0; LATENTS];
        let last = codes * self.per_code - 1;
        let (before, after) = split(self.between(frame));
        let first = split(self.within(before.min(last))).0.min(codes - 1);
        for (place, share) in [(before.min(last), 1.0 - after), ((before + 1).min(last), after)] {
            let (code, after) = split(self.within(place));
            for (code, part) in [(code, 1.0 - after), (code + 1, after)] {
                weights[code.min(codes - 1) - first] += (share * part) as f32;
            }
        }
        (first, weights)
    }

    /// The frames `frames`, `[batch, frames, channels]`, of an utterance of `codes` codes.
    /// `latents`, `[batch, some, channels]`, are those from the code `from` on.
    ///
    /// # Errors
    /// The frames need latents that are not there, or the device is out of memory.
    pub fn interpolate(
        &self,
        latents: &Tensor,
        from: usize,
        codes: usize,
        frames: Range<usize>,
    ) -> Result<Tensor> {
        let (batch, there, channels) = latents.dims3()?;
        if frames.is_empty() || there == 0 || from + there > codes {
            bail!("no frames {frames:?} of {codes} codes, {there} of them from {from} on")
        }
        let count = frames.len();
        let mut indices = Vec::with_capacity(count * LATENTS);
        let mut weights = Vec::with_capacity(count * LATENTS);
        for frame in frames {
            let (first, of_frame) = self.weights(frame, codes);
            for (code, weight) in (first..).zip(of_frame) {
                let code = if weight == 0.0 { first } else { code };
                match code.checked_sub(from).filter(|index| *index < there) {
                    Some(index) => indices.push(index as u32),
                    None => bail!("frame {frame} needs the latent of code {code}"),
                }
                weights.push(weight);
            }
        }
        let device = latents.device();
        let indices = Tensor::from_vec(indices, count * LATENTS, device)?;
        let weights = Tensor::from_vec(weights, (count, LATENTS, 1), device)?;
        let latents = latents.contiguous()?.index_select(&indices, 1)?;
        let latents = latents.reshape((batch, count, LATENTS, channels))?;
        latents.broadcast_mul(&weights.to_dtype(latents.dtype())?)?.sum(2)
    }
}

/// A place as the whole one before it and what is left; places before the first are the first.
fn split(place: f64) -> (usize, f64) {
    let place = place.max(0.0);
    (place as usize, place.fract())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn grid() -> Grid {
        Grid::new(&HifiganConfig::default())
    }

    #[test]
    fn codes_have_between_four_and_five_frames() {
        let frames = [1, 2, 9, 60, 147, 500].map(|codes| grid().frames(codes));
        assert_eq!(frames, [4, 8, 39, 261, 640, 2176]);
        for codes in 0..600 {
            let frames = grid().frames(codes + 7) - grid().frames(codes);
            assert!((30..=grid().most_frames(7)).contains(&frames), "{codes}: {frames}");
        }
        assert_eq!(grid().most_frames(7), 31);
        assert!((grid().codes_per_frame() - 0.229_687_5).abs() < 1e-12);
    }

    #[test]
    fn frames_are_made_of_the_codes_around_them() {
        // The first four frames of 9 codes: the first is held, the others lie at 0.878125, 1.796875
        // and 2.715625 of four to a code, which lie at -0.375, -0.125, 0.125 and 0.375 of the
        // codes.
        let close = |frame, codes, expected: [f32; 3]| {
            let (_, weights) = grid().weights(frame, codes);
            let apart = weights.iter().zip(expected).map(|(a, b)| (a - b).abs());
            assert!(apart.fold(0.0f32, f32::max) < 1e-6, "{frame}: {weights:?}");
        };
        close(0, 9, [1.0, 0.0, 0.0]);
        close(1, 9, [1.0, 0.0, 0.0]);
        close(2, 9, [1.0 - 0.099_609_375, 0.099_609_375, 0.0]);
        // Frame 14 lies between the frames 12 and 13 of the spectrogram, in the codes 2 and 3.
        let (first, weights) = grid().weights(14, 9);
        assert_eq!(first, 2);
        assert!((weights[1] - (0.625 + 0.25 * 0.821_875)).abs() < 1e-6, "{weights:?}");
        // The last is held.
        close(38, 9, [1.0, 0.0, 0.0]);
        for codes in 1..200 {
            for frame in 0..grid().frames(codes) {
                let (first, weights) = grid().weights(frame, codes);
                assert_eq!(first, grid().first_code(frame).min(codes - 1));
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_part_is_made_as_in_the_whole() {
        let latents: Vec<f32> = (0..40).map(|index| (index * index % 17) as f32).collect();
        let latents = Tensor::from_vec(latents, (1, 20, 2), &Device::Cpu).unwrap();
        let whole = grid().interpolate(&latents, 0, 20, 0..grid().frames(20)).unwrap();
        let from = grid().first_code(31);
        let part = latents.narrow(1, from, 8).unwrap();
        let part = grid().interpolate(&part, from, 20, 31..40).unwrap();
        let expected = whole.narrow(1, 31, 9).unwrap();
        assert_eq!(part.to_vec3::<f32>().unwrap(), expected.to_vec3::<f32>().unwrap());
    }

    #[test]
    fn frames_without_their_codes_are_an_error() {
        let latents = Tensor::zeros((1, 3, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(grid().interpolate(&latents, 2, 9, 0..4).is_err(), "the first codes are missing");
        assert!(grid().interpolate(&latents, 2, 9, 30..31).is_err(), "the last ones are");
        assert!(grid().interpolate(&latents, 0, 2, 0..4).is_err(), "more than there can be");
        assert!(grid().interpolate(&latents, 0, 3, 4..4).is_err(), "no frames");
    }
}
