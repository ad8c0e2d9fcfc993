//! Tortoise as a [`Voice`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::TortoiseSizes;
use super::autoregressive::{End, Sampling, Slots, Speaking, Spoken};
use super::clips::Clips;
use super::diffusion::Sampler;
use super::hifigan::{HifiganConfig, HifiganStream, Margins};
use super::import::{self, Imported};
use super::latents::VoiceLatents;
use super::mel::Mel;
use super::networks::{Networks, Weights, files};
use super::preset::{Preset, Quality};
use super::quality::{self, Candidate};
use super::random::Random;
use super::sound::Sound;
use super::tempo::Tempo;
use super::text::{Cleaning, Tokenizer};
use super::voices::{VoiceTensors, Voices};
use crate::batch::{BatchConfig, BatchError, BatchStats, Batcher, Pending, StepLimits, Urgency};
use crate::voice::{Recording, SpeakRequest, Voice, VoiceError, VoiceInfo, clamped_speed};
use crate::{CancelToken, Language};

/// Name in traces, metrics and configuration.
pub const NAME: &str = "tortoise";
/// Of everything that comes out.
const SAMPLE_RATE_HZ: u32 = 24_000;
/// Codes of a sentence at most, 23 s.
const LONGEST: usize = 500;
/// Ids of text that are spoken in one go: so many fit the codes, however slowly they are spoken.
const PIECE_IDS: usize = 160;
/// A text of so many ids is read with so many codes for each, and some more, at most: the slowest
/// speech has half of it.
const CODES_PER_ID: usize = 6;
const CODES_OF_ANY: usize = 24;
/// Codes of the largest window of sound, about a second. The first one is of a single code.
const WINDOW: usize = 20;
/// Voices that the model has by itself, where it can make some.
const OWN_VOICES: u64 = 4;
/// A prompt is read in one step.
const PROMPT_PIECE: usize = 512;
/// As many codes of the future as the published decoder hears.
const LOOKAHEAD: usize = 5;
/// Readings of a text that has no sound before it is given up.
const TRIES: u64 = 3;
/// Sentences at a time where nothing else is said. On a processor one is soonest done alone; several
/// readings of a sentence are soonest done together.
const SLOTS_ON_PROCESSOR: usize = 1;
const READINGS_ON_PROCESSOR: usize = 8;
const SLOTS_ON_CARD: usize = 32;

/// What the engine computes and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TortoiseConfig {
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
    /// Loads an imported model.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(
        folder: &Path,
        config: &TortoiseConfig,
        device: &Device,
    ) -> std::result::Result<Self, LoadError> {
        let path = folder.to_owned();
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
        weights: Weights<'_>,
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
        let voices = Voices::new(own_voices(&networks)?);
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

    fn begin(
        &self,
        voice: &VoiceTensors,
        text: &[u32],
        seed: u64,
        cancel: &CancelToken,
        fades_out: bool,
    ) -> std::result::Result<Reading, BatchError> {
        let config = self.networks.autoregressive.config();
        let most =
            (CODES_OF_ANY + CODES_PER_ID * text.len()).min(LONGEST).min(config.longest_codes());
        let (out, spoken) = bounded(most);
        let how = (self.config.sampling.clone(), seed);
        let speaking = Speaking::new(config, voice.autoregressive.clone(), text, how, most, out);
        let speaking = if fades_out { speaking.fading_out() } else { speaking };
        let pending = self.batcher.submit(speaking, Urgency::default(), cancel)?;
        Ok(Reading { pending, spoken })
    }

    /// Makes sound of a reading while it goes on. Gives whether there was any.
    fn stream(
        &self,
        voice: &VoiceTensors,
        reading: Reading,
        pace: f64,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> std::result::Result<ControlFlow<(), bool>, Stop> {
        let (Some(hifigan), Some(sound)) = (&self.networks.hifigan, &self.sound) else {
            return Err(Stop::Failed("there is no decoder that streams".into()));
        };
        let mut stream = HifiganStream::new(hifigan, &voice.autoregressive, self.margins)?;
        let mut tempo = Tempo::new(pace);
        let mut next = 1;
        let mut any = false;
        let Reading { pending, spoken } = reading;
        while let Ok(first) = spoken.recv() {
            let mut latents = Vec::new();
            for Spoken { latent, .. } in std::iter::once(first).chain(spoken.try_iter()) {
                latents.extend(tempo.push(&latent)?);
            }
            if !latents.is_empty() {
                stream.push(&Tensor::cat(&latents, 0)?)?;
            }
            if stream.ready() >= next
                && let Some(window) = stream.window()?
            {
                any = true;
                if on_chunk(&sound.of(window)?).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                next = (2 * next).min(WINDOW);
            }
        }
        ended(&pending.wait()?)?;
        if let Some(window) = stream.finish()? {
            any = true;
            if on_chunk(&sound.of(window)?).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(any))
    }

    /// The sound of the best of several readings.
    fn refine(
        &self,
        quality: &Quality,
        voice: &VoiceTensors,
        text: &[u32],
        (seed, pace): (u64, f64),
        cancel: &CancelToken,
    ) -> std::result::Result<Vec<f32>, Stop> {
        let Some(networks) = &self.networks.spectral else {
            return Err(Stop::Failed("there is no diffusion decoder".into()));
        };
        let config = self.networks.autoregressive.config();
        let mut candidates = Vec::with_capacity(quality.candidates);
        let seeds: Vec<u64> =
            (0..quality.candidates as u64).map(|index| candidate_seed(seed, index)).collect();
        // No more at a time than there are slots: others want to be read too.
        for some in seeds.chunks(self.slots) {
            let begun = some.iter().map(|seed| self.begin(voice, text, *seed, cancel, true));
            for reading in begun.collect::<std::result::Result<Vec<_>, _>>()? {
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

    fn speak_pieces(
        &self,
        voice: &VoiceTensors,
        pieces: &[Vec<u32>],
        request: &SpeakRequest,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> std::result::Result<(), Stop> {
        let pace = f64::from(clamped_speed(request.speed));
        let cancel = &request.cancel;
        let begin = |index: usize, again: u64| {
            let text = pieces.get(index)?;
            Some(self.begin(voice, text, piece_seed(self.config.seed, index, again), cancel, false))
        };
        if let Some(quality) = &self.quality {
            for (index, text) in pieces.iter().enumerate() {
                let seed = piece_seed(self.config.seed, index, 0);
                let samples = self.refine(quality, voice, text, (seed, pace), cancel)?;
                if on_chunk(&samples).is_break() {
                    return Ok(());
                }
            }
            return Ok(());
        }
        let mut next = begin(0, 0).transpose()?;
        for index in 0..pieces.len() {
            let mut reading = next.take();
            // The next piece is read while this one becomes sound.
            next = begin(index + 1, 0).transpose()?;
            for again in 1..=TRIES {
                let Some(current) = reading.take() else { break };
                match self.stream(voice, current, pace, on_chunk)? {
                    ControlFlow::Break(()) => return Ok(()),
                    ControlFlow::Continue(true) => break,
                    ControlFlow::Continue(false) if again < TRIES => {
                        reading = begin(index, again).transpose()?;
                    }
                    ControlFlow::Continue(false) => {
                        return Err(Stop::Failed("no reading of the text has a sound".into()));
                    }
                }
            }
        }
        Ok(())
    }

    fn latents(&self, recordings: &[Recording]) -> std::result::Result<VoiceTensors, VoiceError> {
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

    fn tensors(&self, latents: &VoiceLatents) -> Result<VoiceTensors> {
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

    fn bytes_of(&self, name: &str, voice: &VoiceTensors) -> Result<Vec<u8>> {
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

/// A sentence that is being read.
struct Reading {
    pending: Pending<Speaking>,
    spoken: Receiver<Spoken>,
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

fn ended(speaking: &Speaking) -> std::result::Result<(), Stop> {
    match speaking.end() {
        End::NotFinite => Err(Stop::Failed("the model's output is no number".into())),
        End::Runaway => {
            tracing::warn!(engine = NAME, codes = speaking.codes().len(), "a reading was ended");
            Ok(())
        }
        End::Natural | End::Calm | End::Abandoned => Ok(()),
    }
}

/// Each piece of a text, and each try, is drawn with numbers of its own.
fn piece_seed(seed: u64, piece: usize, again: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9).wrapping_add((piece as u64) << 8).wrapping_add(again)
}

fn candidate_seed(seed: u64, index: u64) -> u64 {
    seed.wrapping_add(index << 32)
}

/// The voices that the model makes out of nothing, always the same.
fn own_voices(networks: &Networks) -> Result<BTreeMap<String, Arc<VoiceTensors>>> {
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
        Ok(self.speak_pieces(&voice, &pieces, request, on_chunk)?)
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
        let voice = self.latents(recordings)?;
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
