//! The quality path: several readings of a text, of which the one that fits it best becomes a
//! spectrogram, and that becomes sound.

use std::ops::ControlFlow;

use candle_core::{DType, Device, IndexOp, Result, Tensor, bail};

use super::autoregressive::{AutoregressiveConfig, fix_codes, without_calm_end};
use super::clvp::Clvp;
use super::diffusion::{self, SamplingConfig};
use super::networks::Spectral;
use super::random::Random;
use super::univnet::SILENT_FRAMES;
use super::voices::VoiceTensors;

/// Readings that are scored together.
const SCORED_TOGETHER: usize = 16;
/// Told apart from the numbers that codes are drawn with.
const NOISE: u64 = 0x006e_6f69_7365;

/// One reading of a text.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Its codes, as far as they are to be heard.
    pub(super) codes: Vec<u32>,
    /// Their latents, `[codes, width]`.
    pub(super) latents: Tensor,
}

impl Candidate {
    /// Of all codes that were chosen, with those that it faded out with, and their latents. `None` if
    /// nothing is to be heard.
    pub(super) fn new(codes: &[u32], latents: &[Tensor], calm: u32) -> Result<Option<Self>> {
        let heard = without_calm_end(codes, calm).min(latents.len());
        if codes[..heard].iter().all(|code| *code == calm) {
            return Ok(None);
        }
        let latents = Tensor::cat(&latents[..heard], 0)?;
        Ok(Some(Self { codes: codes[..heard].to_vec(), latents }))
    }
}

/// The candidate that fits the text best; the first one where nothing can tell.
pub(super) fn best(
    clvp: Option<&Clvp>,
    config: &AutoregressiveConfig,
    text: &[u32],
    mut candidates: Vec<Candidate>,
    longest: usize,
) -> Result<Candidate> {
    if candidates.is_empty() {
        bail!("no reading of the text has a sound");
    }
    let (Some(clvp), true) = (clvp, candidates.len() > 1) else {
        return Ok(candidates.swap_remove(0));
    };
    let device = candidates[0].latents.device().clone();
    let text = [text, &[config.stop_text]].concat();
    let count = text.len();
    let text = Tensor::from_vec(text, (1, count), &device)?;
    let mut scores = Vec::with_capacity(candidates.len());
    for some in candidates.chunks(SCORED_TOGETHER) {
        // As long as each other, as they were in training.
        let fixed = some.iter().map(|candidate| {
            let mut codes = candidate.codes.clone();
            codes.truncate(longest);
            fix_codes(&codes, longest, config)
        });
        let fixed: Vec<u32> = fixed.flatten().collect();
        let codes = Tensor::from_vec(fixed, (some.len(), longest), &device)?;
        scores.extend(clvp.scores(&text, &codes)?.to_dtype(DType::F32)?.to_vec1::<f32>()?);
    }
    let best = scores.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    let best = best.map_or(0, |(index, _)| index);
    Ok(candidates.swap_remove(best))
}

/// The sound of latents, `[codes, width]`, at 24 kHz. `None` if `progress` breaks off; it is told of
/// each step.
pub(super) fn sound(
    networks: &Spectral,
    latents: &Tensor,
    voice: &VoiceTensors,
    config: &SamplingConfig,
    seed: u64,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Option<Vec<f32>>> {
    let Some(voice) = &voice.diffusion else {
        bail!("the voice was learned for streaming only: learn it again")
    };
    let mut random = Random::new(seed ^ NOISE);
    let guided = config.guidance.is_some();
    let conditioning = networks.diffusion.conditioning(&latents.unsqueeze(0)?, voice, guided)?;
    let Some(mel) =
        diffusion::sample(&networks.diffusion, &conditioning, config, &mut random, progress)?
    else {
        return Ok(None);
    };
    let mel = diffusion::denormalised(&mel)?;
    let noise = noise(&mut random, networks, mel.dim(2)?, mel.device())?;
    let samples = networks.univnet.speak(&mel, &noise)?;
    Ok(Some(samples.i(0)?.to_vec1()?))
}

fn noise(
    random: &mut Random,
    networks: &Spectral,
    frames: usize,
    device: &Device,
) -> Result<Tensor> {
    let (channels, frames) = (networks.univnet_config.noise, frames + SILENT_FRAMES);
    Tensor::from_vec(random.normals(channels * frames), (1, channels, frames), device)
}
