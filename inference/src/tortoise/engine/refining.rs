//! Sound of the best of several readings.

use std::ops::ControlFlow;

use candle_core::Tensor;

use super::reading::{LONGEST, candidate_seed, ended, piece_seed};
use super::{Stop, Tortoise};
use crate::CancelToken;
use crate::tortoise::preset::Quality;
use crate::tortoise::quality::{self, Candidate};
use crate::tortoise::tempo::Tempo;
use crate::tortoise::voices::VoiceTensors;
use crate::voice::{SpeakRequest, clamped_speed};

/// Readings where nothing tells which of them is best: the first that has a sound is.
const UNRANKED: usize = 3;

impl Tortoise {
    /// Says the pieces of a text, each when all of it is done.
    pub(super) fn refine_pieces(
        &self,
        quality: &Quality,
        voice: &VoiceTensors,
        pieces: &[Vec<u32>],
        request: &SpeakRequest,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        let pace = f64::from(clamped_speed(request.speed));
        for (index, text) in pieces.iter().enumerate() {
            let seed = piece_seed(self.config.seed, index, 0);
            let samples = self.refine(quality, voice, text, (seed, pace), &request.cancel)?;
            if on_chunk(&samples).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The sound of the best of several readings.
    fn refine(
        &self,
        quality: &Quality,
        voice: &VoiceTensors,
        text: &[u32],
        (seed, pace): (u64, f64),
        cancel: &CancelToken,
    ) -> Result<Vec<f32>, Stop> {
        let Some(networks) = &self.networks.spectral else {
            return Err(Stop::Failed("there is no diffusion decoder".into()));
        };
        let config = self.networks.autoregressive.config();
        let count = if networks.clvp.is_some() { quality.candidates } else { UNRANKED };
        let mut candidates = Vec::with_capacity(count);
        let seeds: Vec<u64> = (0..count as u64).map(|index| candidate_seed(seed, index)).collect();
        // No more at a time than there are slots: others want to be read too.
        for some in seeds.chunks(self.slots) {
            let begun = some.iter().map(|seed| self.begin(voice, text, *seed, cancel, true));
            for reading in begun.collect::<Result<Vec<_>, _>>()? {
                let done = reading.pending.wait()?;
                ended(&done)?;
                let latents: Vec<Tensor> =
                    reading.spoken.try_iter().map(|spoken| spoken.latent).collect();
                candidates.extend(Candidate::new(done.codes(), &latents, config.calm)?);
            }
        }
        let longest = LONGEST.min(config.longest_codes());
        let _turn = self.spectral.lock();
        let best = quality::best(networks.clvp.as_ref(), config, text, candidates, longest)?;
        let mut tempo = Tempo::new(pace);
        let mut latents = Vec::new();
        for code in 0..best.codes.len() {
            latents.extend(tempo.push(&best.latents.narrow(0, code, 1)?)?);
        }
        let latents = Tensor::cat(&latents, 0)?;
        let progress = &mut |_, _| match cancel.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        quality::sound(networks, &latents, voice, &quality.diffusion, seed, progress)?
            .ok_or(Stop::Cancelled)
    }
}
