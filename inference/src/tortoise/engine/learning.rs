//! Voices: what the networks hear in recordings, what is kept of it, and those that nobody has.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Result, Tensor};

use super::{NAME, Tortoise, failed};
use crate::tortoise::clips::Clips;
use crate::tortoise::latents::VoiceLatents;
use crate::tortoise::mel::Mel;
use crate::tortoise::networks::Networks;
use crate::tortoise::random::Random;
use crate::tortoise::voices::VoiceTensors;
use crate::voice::{Recording, VoiceError};

/// Voices that the model has by itself, where it can make some.
const OWN_VOICES: u64 = 4;

impl Tortoise {
    /// The voice that recordings are of.
    pub(super) fn heard(
        &self,
        recordings: &[Recording],
    ) -> std::result::Result<VoiceTensors, VoiceError> {
        let prepared = Clips::default()
            .prepare(recordings, self.config.seed)
            .map_err(|error| VoiceError::UnusableRecording { reason: error.to_string() })?;
        for note in &prepared.notes {
            tracing::info!(engine = NAME, %note, "a voice is learned");
        }
        let learned = || {
            let mels = |mels: &[Mel]| -> Result<Vec<Tensor>> {
                mels.iter().map(|mel| mel.tensor(&self.networks.device)).collect()
            };
            let conditioning = self.networks.autoregressive.conditioning();
            let autoregressive = conditioning.voice(&mels(&prepared.conditioning)?)?;
            let diffusion = match &self.networks.spectral {
                Some(networks) => {
                    let clips = Tensor::cat(&mels(&prepared.diffusion)?, 0)?;
                    Some(networks.embedder.forward(&clips)?.unsqueeze(0)?)
                }
                None => None,
            };
            Ok(VoiceTensors { autoregressive, diffusion })
        };
        learned().map_err(failed)
    }

    /// The voice that was kept, if this model can have it.
    pub(super) fn tensors(&self, latents: &VoiceLatents) -> Result<VoiceTensors> {
        let width = self.networks.autoregressive.config().width;
        let spectral = self.networks.spectral.as_ref();
        let diffusion = spectral.map(|networks| 2 * networks.diffusion.config().channels);
        latents.fits(&self.model, width, diffusion).map_err(candle_core::Error::wrap)?;
        let row =
            |values: &[f32]| Tensor::from_slice(values, (1, values.len()), &self.networks.device);
        Ok(VoiceTensors {
            autoregressive: row(&latents.autoregressive)?,
            diffusion: latents.diffusion.as_deref().map(row).transpose()?,
        })
    }

    /// What is kept of a voice.
    pub(super) fn bytes_of(&self, name: &str, voice: &VoiceTensors) -> Result<Vec<u8>> {
        let numbers =
            |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let latents = VoiceLatents {
            name: name.to_owned(),
            model: self.model.clone(),
            autoregressive: numbers(&voice.autoregressive)?,
            diffusion: voice.diffusion.as_ref().map(numbers).transpose()?,
        };
        latents.to_bytes().map_err(candle_core::Error::wrap)
    }
}

/// The voices that the model makes out of nothing, always the same.
pub(super) fn own_voices(networks: &Networks) -> Result<BTreeMap<String, Arc<VoiceTensors>>> {
    let mut voices = BTreeMap::new();
    let Some(converter) = &networks.random else { return Ok(voices) };
    let spectral = networks.spectral.as_ref().and_then(|networks| {
        let channels = networks.diffusion.config().channels;
        networks.random.as_ref().map(|converter| (converter, 2 * channels))
    });
    if networks.spectral.is_some() && spectral.is_none() {
        return Ok(voices);
    }
    for index in 1..=OWN_VOICES {
        let mut random = Random::new(index);
        let mut noise =
            |width: usize| Tensor::from_vec(random.normals(width), (1, width), &networks.device);
        let width = networks.autoregressive.config().width;
        let autoregressive = converter.latent(&noise(width)?)?;
        let diffusion = match &spectral {
            Some((converter, width)) => Some(converter.latent(&noise(*width)?)?),
            None => None,
        };
        voices.insert(
            format!("tortoise_{index}"),
            Arc::new(VoiceTensors { autoregressive, diffusion }),
        );
    }
    Ok(voices)
}
