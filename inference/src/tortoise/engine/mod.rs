//! Tortoise as a [`Voice`].

mod learning;
mod reading;
mod refining;
mod streaming;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::TortoiseSizes;
use super::autoregressive::{Sampling, Slots, Speaking};
use super::diffusion::Sampler;
use super::hifigan::{HifiganConfig, Margins};
use super::import::{self, Imported};
use super::latents::VoiceLatents;
use super::networks::{Networks, Source, files};
use super::preset::{Preset, Quality};
use super::sound::Sound;
use super::text::{Cleaning, Tokenizer};
use super::voices::Voices;
use crate::Language;
use crate::batch::{BatchConfig, BatchError, BatchStats, Batcher, StepLimits};
use crate::device::{DeviceError, DeviceName};
use crate::voice::{Recording, SpeakRequest, Voice, VoiceError, VoiceInfo};

/// Name in traces, metrics and configuration.
pub const NAME: &str = "tortoise";
/// Of everything that comes out.
const SAMPLE_RATE_HZ: u32 = 24_000;
/// Ids of text that are spoken in one go: so many fit the codes, however slowly they are spoken.
const PIECE_IDS: usize = 160;
/// A prompt is read in one step.
const PROMPT_PIECE: usize = 512;
/// As many codes of the future as the published decoder hears.
const LOOKAHEAD: usize = 5;
/// Sentences at a time where nothing else is said. On a processor one is soonest done alone; several
/// readings of a sentence are soonest done together.
const SLOTS_ON_PROCESSOR: usize = 1;
const READINGS_ON_PROCESSOR: usize = 8;
const SLOTS_ON_CARD: usize = 32;

/// What the engine computes and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TortoiseConfig {
    /// Name of an imported model in the models' folder, or a folder.
    pub model: String,
    /// Where it computes.
    pub device: DeviceName,
    /// How much is computed for a sentence.
    pub preset: Preset,
    /// Sentences that are read at a time; 0: one on a processor (8 where the best of several readings is
    /// spoken), 32 on a graphics card.
    pub slots: usize,
    /// Codes that have to be there before one becomes sound: 5 are as many as the published decoder
    /// hears, and with fewer it sounds worse.
    pub lookahead: usize,
    /// The same seed says the same text in the same way.
    pub seed: u64,
    /// How the diffusion of the presets that have one goes from noise to a spectrogram.
    pub diffusion: Sampler,
    /// How codes are drawn.
    pub sampling: Sampling,
    /// What the model was trained to speak: English, for the published weights.
    pub languages: Vec<Language>,
    /// How text is made ready for it.
    pub cleaning: Cleaning,
}

impl Default for TortoiseConfig {
    fn default() -> Self {
        Self {
            model: import::FOLDER.to_owned(),
            device: DeviceName::Auto,
            preset: Preset::Streaming,
            slots: 0,
            lookahead: LOOKAHEAD,
            seed: 1,
            diffusion: Sampler::Ancestral,
            sampling: Sampling::default(),
            languages: vec![Language::EN],
            cleaning: Cleaning::English,
        }
    }
}

/// The model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The configuration asks for a graphics card that is not there: say `auto` or `cpu`.
    #[error(
        "the device is to be \"cuda\": say \"auto\" or \"cpu\", or take a program and a machine with it"
    )]
    Device(#[from] DeviceError),
    /// The folder holds no model that was imported: import it, or correct the path.
    #[error("{path} holds no usable model")]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<import::ImportError>,
    },
    /// The networks cannot be loaded from it.
    #[error("the model in {path} cannot be loaded")]
    Networks {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: candle_core::Error,
    },
}

/// The engine. Calls from several threads share the steps of the autoregressive model.
pub struct Tortoise {
    networks: Networks,
    tokenizer: Tokenizer,
    voices: Voices,
    batcher: Batcher<Speaking>,
    sound: Option<Sound>,
    /// One spectrogram at a time: two would not fit the memory.
    spectral: Mutex<()>,
    margins: Margins,
    config: TortoiseConfig,
    quality: Option<Quality>,
    slots: usize,
    /// What latents of voices were made with.
    model: String,
}

impl Tortoise {
    /// Loads an imported model from its folder.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(folder: &Path, config: &TortoiseConfig) -> std::result::Result<Self, LoadError> {
        let path = folder.to_owned();
        let device = &config.device.open()?;
        let imported = import::verified(folder).map_err(|source| LoadError::Unusable {
            path: path.clone(),
            source: Box::new(source),
        })?;
        let weights = files(folder, device);
        let made = Self::tokenizer(&imported, config.cleaning).and_then(|tokenizer| {
            let sizes = imported.sizes().try_into()?;
            Self::build(
                &sizes,
                config,
                device,
                tokenizer,
                imported.voices_of().to_owned(),
                &weights,
            )
        });
        made.map_err(|source| LoadError::Networks { path, source })
    }

    fn tokenizer(imported: &Imported, cleaning: Cleaning) -> Result<Tokenizer> {
        match imported.tokenizer() {
            Some(own) => Tokenizer::read(own.as_path(), cleaning).map_err(candle_core::Error::wrap),
            None => Ok(Tokenizer::english()),
        }
    }

    /// An engine with weights from anywhere. `model` tells it from others whose voices it cannot use.
    ///
    /// # Errors
    /// A tensor is missing or has another shape, the preset needs a network that is not there, or the
    /// system refuses a thread.
    pub fn build(
        sizes: &TortoiseSizes,
        config: &TortoiseConfig,
        device: &Device,
        tokenizer: Tokenizer,
        model: String,
        weights: Source<'_>,
    ) -> Result<Self> {
        config.sampling.check()?;
        let quality = config.preset.quality(config.diffusion);
        let networks = Networks::load(sizes, quality.is_none(), device, weights)?;
        let slots = match (config.slots, device.is_cpu()) {
            (0, true) if quality.is_some() => READINGS_ON_PROCESSOR,
            (0, true) => SLOTS_ON_PROCESSOR,
            (0, false) => SLOTS_ON_CARD,
            (slots, _) => slots,
        };
        let weights = Arc::clone(&networks.autoregressive);
        // Made here so that an error is told; made again only after a loss.
        let mut first = Some(Slots::new(Arc::clone(&weights), slots)?);
        let make = move || match first.take() {
            Some(slots) => slots,
            None => Slots::new(Arc::clone(&weights), slots).expect("there was room before"),
        };
        let limits = StepLimits { prompt_piece: PROMPT_PIECE, drafts: 0 };
        let batch = BatchConfig { limits, ..BatchConfig::default() };
        let batcher = Batcher::start("speak-batch", make, &batch)?;
        let sound = networks.hifigan.clone().map(Sound::start).transpose()?;
        let voices = Voices::new(learning::own_voices(&networks)?);
        let exact = Margins::exact(sizes.hifigan.as_ref().unwrap_or(&HifiganConfig::default()));
        let margins = Margins { lookahead: config.lookahead, ..exact };
        Ok(Self {
            margins,
            networks,
            tokenizer,
            voices,
            batcher,
            sound,
            spectral: Mutex::default(),
            config: config.clone(),
            quality,
            slots,
            model,
        })
    }

    /// Ids that are spoken in one go.
    fn piece_ids(&self) -> usize {
        PIECE_IDS.min(self.networks.autoregressive.config().longest_text())
    }
}

/// Why nothing more is spoken.
enum Stop {
    Cancelled,
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl From<candle_core::Error> for Stop {
    fn from(error: candle_core::Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

impl From<BatchError> for Stop {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Cancelled => Self::Cancelled,
            BatchError::Full | BatchError::Failed(_) | BatchError::Ended => {
                Self::Failed(Box::new(error))
            }
        }
    }
}

impl From<Stop> for VoiceError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Cancelled => Self::Cancelled,
            Stop::Failed(source) => Self::Failed { engine: NAME.to_owned(), source },
        }
    }
}

fn failed(error: candle_core::Error) -> VoiceError {
    VoiceError::Failed { engine: NAME.to_owned(), source: Box::new(error) }
}

impl Voice for Tortoise {
    fn name(&self) -> &str {
        NAME
    }

    /// The languages of its weights: English for those that are published. A model without voices of
    /// its own speaks only in voices that are named.
    fn supports(&self, language: Language) -> bool {
        self.config.languages.contains(&language)
    }

    fn sample_rate_hz(&self) -> u32 {
        SAMPLE_RATE_HZ
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        let Some(language) = self.config.languages.first().copied() else { return Vec::new() };
        let info = |(name, learned)| VoiceInfo { engine: NAME.to_owned(), name, language, learned };
        self.voices.names().into_iter().map(info).collect()
    }

    fn speak(
        &self,
        request: &SpeakRequest,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> std::result::Result<(), VoiceError> {
        let unsupported = || VoiceError::UnsupportedLanguage {
            engine: NAME.to_owned(),
            language: request.language,
        };
        if !self.config.languages.contains(&request.language) {
            return Err(unsupported());
        }
        let name = match &request.voice {
            Some(name) => name.clone(),
            None => self.voices.default_name().ok_or_else(unsupported)?,
        };
        let voice = self.voices.get(&name).ok_or_else(|| VoiceError::UnknownVoice {
            known: self.voices().into_iter().map(|voice| voice.name).collect::<Vec<_>>().join(", "),
            voice: name,
        })?;
        if request.cancel.is_cancelled() {
            return Err(VoiceError::Cancelled);
        }
        let pieces =
            self.tokenizer.pieces(&request.text, request.language, self.piece_ids()).map_err(
                |error| VoiceError::Failed { engine: NAME.to_owned(), source: Box::new(error) },
            )?;
        let pieces: Vec<Vec<u32>> = pieces.into_iter().map(|piece| piece.ids).collect();
        let said = match &self.quality {
            Some(quality) => self.refine_pieces(quality, &voice, &pieces, request, on_chunk),
            None => self.stream_pieces(&voice, &pieces, request, on_chunk),
        };
        Ok(said?)
    }

    fn batch_stats(&self) -> Option<BatchStats> {
        Some(self.batcher.stats())
    }

    fn can_learn(&self) -> bool {
        true
    }

    fn learn(
        &self,
        name: &str,
        recordings: &[Recording],
    ) -> std::result::Result<Vec<u8>, VoiceError> {
        if self.voices.is_taken(name) {
            return Err(VoiceError::NameTaken { voice: name.to_owned() });
        }
        let voice = self.heard(recordings)?;
        let bytes = self.bytes_of(name, &voice).map_err(failed)?;
        match self.voices.add(name, voice) {
            true => Ok(bytes),
            false => Err(VoiceError::NameTaken { voice: name.to_owned() }),
        }
    }

    fn recall(&self, name: &str, bytes: &[u8]) -> std::result::Result<(), VoiceError> {
        let latents = VoiceLatents::from_bytes(bytes).map_err(|error| VoiceError::Failed {
            engine: NAME.to_owned(),
            source: Box::new(error),
        })?;
        let voice = self.tensors(&latents).map_err(failed)?;
        match self.voices.add(name, voice) {
            true => Ok(()),
            false => Err(VoiceError::NameTaken { voice: name.to_owned() }),
        }
    }

    fn forget(&self, name: &str) -> bool {
        self.voices.forget(name)
    }
}
