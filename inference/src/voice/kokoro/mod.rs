//! Kokoro-82M (a StyleTTS 2 with an iSTFTNet vocoder, Apache-2.0): natural voices for six
//! languages at a cost that two processor cores can bear.
//!
//! Text becomes clauses, a clause becomes phonemes ([`g2p`]), those become tokens. The front of the
//! model (text encoder, durations, pitch) is the published graph, run by `rten`; the decoder and the
//! vocoder are our own ([`decoder`], [`vocoder`]). The model draws no random numbers: the same tokens and voice
//! give the same samples.

mod convolution;
mod decoder;
mod dequantise;
mod ends;
mod fourier;
mod g2p;
mod graph;
mod moments;
mod product;
#[cfg(target_arch = "x86_64")]
mod product_x86;
mod signal;
mod snake;
mod styles;
mod vocoder;
mod windows;
mod wire;

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rten::{ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::{AsView, Layout, NdTensor};

use self::decoder::{Decoder, INPUTS, RESIDUALS};
use self::ends::Ends;
use self::g2p::{Dialect, MAX_TOKENS, Vocabulary};
use self::moments::Statistics;
use self::signal::Signal;
use self::styles::{STYLE_LEN, Styles};
use self::vocoder::{SOURCE_CHANNELS, Vocoder, VocoderInput};
use self::windows::Seam;
use super::espeak::EspeakError;
use super::espeak::phonemizer::Phonemizer;
use super::{SpeakRequest, Voice, VoiceError, VoiceInfo, clamped_speed, clauses, text};
use crate::kept::{Kept, Origin};
use crate::mapped::MappedFile;
use crate::{CancelToken, Language};

pub use g2p::VocabularyError;
pub use graph::GraphError;
pub use styles::StyleError;

const ENGINE: &str = "kokoro";
const MODEL_FILE: &str = "kokoro-v1.0.int8.onnx";
const VOCABULARY_FILE: &str = "vocab.json";
const VOICES_FOLDER: &str = "voices";
/// Fewer sounds than this are spoken together with the next clause: alone they come out mumbled.
const MIN_SOUNDS: usize = 4;
/// Styles of very short utterances are poorly trained; shorter ones borrow this row.
const MIN_STYLE_TOKENS: usize = 12;

/// Why Kokoro does not work.
#[derive(Debug, thiserror::Error)]
pub enum KokoroError {
    /// A file of the model cannot be read.
    #[error("cannot read {path}: fetch the model")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The model file is damaged or another one.
    #[error("{path} is not usable")]
    Graph {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: GraphError,
    },
    /// The runtime does not accept the model.
    #[error("the runtime refused the model")]
    Load(#[source] rten::LoadError),
    /// The vocabulary file is damaged.
    #[error("{path} is not usable")]
    Vocabulary {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: VocabularyError,
    },
    /// A voice file is damaged.
    #[error("a voice is not usable")]
    Style(#[from] StyleError),
    /// The phonemes could not be had.
    #[error("no phonemes")]
    Phonemes(#[from] EspeakError),
    /// The runtime failed.
    #[error("the model failed")]
    Run(#[source] rten::RunError),
    /// The model gave something unusable.
    #[error("the model gave unusable {0}")]
    Output(&'static str),
    /// More tokens than the model takes.
    #[error("{0} tokens: the model takes 1 to {MAX_TOKENS}")]
    TokenCount(usize),
}

/// The Kokoro engine. Calls from several threads run at the same time and share its thread pool.
pub struct Kokoro {
    front: rten::Model,
    nodes: FrontNodes,
    decoder: Decoder,
    vocoder: Vocoder,
    styles: Styles,
    vocabulary: Vocabulary,
    phonemizer: Phonemizer,
    pool: Arc<ThreadPool>,
    /// By voice; at most as many as there are voices.
    statistics: Mutex<HashMap<String, Statistics>>,
    /// Where they are kept, and the program and the model that they come from.
    kept: Option<(Kept, Origin)>,
}

/// Takes a model file apart and prepares the half that is ours: a door for the fuzz targets.
///
/// # Errors
/// The file is not the graph that this engine knows.
#[doc(hidden)]
pub fn read_graph(file: &[u8]) -> Result<(), GraphError> {
    let split = graph::split(file)?;
    Vocoder::new(&split.vocoder);
    Ok(())
}

/// Reads a vocabulary file: a door for the fuzz targets.
///
/// # Errors
/// The file is no vocabulary of the model's.
#[doc(hidden)]
pub fn read_vocabulary(json: &[u8]) -> Result<(), VocabularyError> {
    Vocabulary::parse(json).map(drop)
}

/// Inputs and outputs of the front half.
struct FrontNodes {
    tokens: NodeId,
    style: NodeId,
    speed: NodeId,
    /// Aligned text and its narrower form, source, then the styles of decoder and vocoder.
    outputs: Vec<NodeId>,
}

impl Kokoro {
    /// Loads the model from `dir`, which holds `kokoro-v1.0.int8.onnx`, `vocab.json` and the folder
    /// `voices`. Everything is computed on `threads` threads of its own, which sleep when there is
    /// nothing to do.
    ///
    /// # Errors
    /// [`VoiceError::Failed`] with a [`KokoroError`] if a file is missing or damaged.
    pub fn load(dir: &Path, threads: usize) -> Result<Self, VoiceError> {
        Self::load_parts(dir, threads).map_err(failed)
    }

    fn load_parts(dir: &Path, threads: usize) -> Result<Self, KokoroError> {
        let pool = Arc::new(ThreadPool::with_num_threads(threads.max(1)));
        let styles = Styles::open(&dir.join(VOICES_FOLDER))?;
        let path = dir.join(VOCABULARY_FILE);
        let vocabulary = Vocabulary::parse(&read(&path)?)
            .map_err(|source| KokoroError::Vocabulary { path, source })?;

        let path = dir.join(MODEL_FILE);
        let file = MappedFile::open(&path)
            .map_err(|source| KokoroError::Io { path: path.clone(), source })?;
        let split = pool
            .run(|| graph::split(&file))
            .map_err(|source| KokoroError::Graph { path, source })?;
        drop(file);
        let front = ModelOptions::with_all_ops()
            .prepack_weights(true)
            .load(split.front)
            .map_err(KokoroError::Load)?;
        let node = |name: &str| front.node_id(name).map_err(KokoroError::Run);
        let nodes = FrontNodes {
            tokens: node("tokens")?,
            style: node("style")?,
            speed: node("speed")?,
            outputs: [graph::ALIGNED_OUTPUT, graph::RESIDUAL_OUTPUT, graph::SOURCE_OUTPUT]
                .into_iter()
                .chain(split.styles.iter().map(String::as_str))
                .map(node)
                .collect::<Result<_, _>>()?,
        };
        let vocoder = pool.run(|| Vocoder::new(&split.vocoder));
        Ok(Self {
            front,
            nodes,
            decoder: split.decoder,
            vocoder,
            styles,
            vocabulary,
            phonemizer: Phonemizer::new(),
            pool,
            statistics: Mutex::default(),
            kept: None,
        })
    }

    /// Keeps what it learns of each voice for the next start. `dir` is what it was loaded from.
    #[must_use]
    pub fn keeping(mut self, dir: &Path, kept: Kept) -> Self {
        self.kept = Origin::of_model(&dir.join(MODEL_FILE)).ok().map(|origin| (kept, origin));
        self
    }

    /// The tokens of `text`, as one utterance, without the silent ones at the ends.
    ///
    /// # Errors
    /// If the language is not one of Kokoro's or espeak-ng fails.
    pub fn tokens(&self, language: Language, text: &str) -> Result<Vec<i32>, VoiceError> {
        let phonemes = g2p::phonemes(&self.phonemizer, dialect(language)?, &text::speakable(text))
            .map_err(|error| failed(error.into()))?;
        Ok(self.vocabulary.tokens(&phonemes))
    }

    /// Runs the model on one utterance of 1 to 510 tokens and returns its samples at 24 kHz as they
    /// come, with the silence at the ends.
    ///
    /// # Errors
    /// If the voice is unknown, there are too few or too many tokens, or the model fails.
    pub fn synthesise(
        &self,
        tokens: &[i32],
        voice: &str,
        speed: f32,
    ) -> Result<Vec<f32>, VoiceError> {
        let style = self.style_for(tokens, voice)?;
        self.pool
            .run(|| {
                let input = self.front(tokens, style, clamped_speed(speed))?;
                self.vocode(&input, 0..input.frames(), 0, &mut Statistics::default())
            })
            .map_err(failed)
    }

    /// The same in pieces, given away as they are made until `on_samples` breaks: the first one
    /// short, so that it is soon heard, each long enough to cover the making of the next. Rhythm and
    /// pitch are those of the whole utterance; the vocoder, which would have to see all of it to
    /// normalise by it, normalises by what it knows of the voice.
    ///
    /// # Errors
    /// As [`synthesise`](Self::synthesise); [`VoiceError::Cancelled`] between two pieces.
    pub fn synthesise_streaming(
        &self,
        tokens: &[i32],
        voice: &str,
        speed: f32,
        cancel: &CancelToken,
        on_samples: &mut dyn FnMut(Vec<f32>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, VoiceError> {
        let style = self.style_for(tokens, voice)?;
        let input =
            self.pool.run(|| self.front(tokens, style, clamped_speed(speed))).map_err(failed)?;
        let windows = windows::plan(input.frames());
        let mut statistics = if windows.len() > 1 {
            self.statistics_of(voice)?
        } else {
            // Nothing waits for the rest of it: its own are at hand.
            Statistics::default()
        };
        let mut seam = Seam::default();
        for window in windows {
            if cancel.is_cancelled() {
                return Err(VoiceError::Cancelled);
            }
            let is_last = window.end == input.frames();
            let beyond = if is_last { 0 } else { windows::SEAM_SAMPLES };
            let samples = self
                .pool
                .run(|| self.vocode(&input, window, beyond, &mut statistics))
                .map_err(failed)?;
            if on_samples(seam.join(samples, beyond)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// What the vocoder's normalisations see of a voice in a few seconds of its own language. Taken
    /// once, so that the same words always give the same samples.
    fn statistics_of(&self, voice: &str) -> Result<Statistics, VoiceError> {
        if let Some(statistics) = self.statistics.lock().get(voice) {
            return Ok(statistics.clone());
        }
        let language = language_of(voice).filter(|language| g2p::dialect(*language).is_some());
        let language = language.unwrap_or(Language::EN);
        let tokens = self.tokens(language, dialect(language)?.sample)?;
        let style = self.style_for(&tokens, voice)?;
        let kept = self.kept.as_ref().map(|(kept, origin)| {
            let tokens = tokens.iter().flat_map(|token| token.to_le_bytes());
            let style = style.iter().flat_map(|number| number.to_le_bytes());
            (kept, origin.clone().with(&tokens.chain(style).collect::<Vec<_>>()))
        });
        let name = format!("{ENGINE}-{voice}");
        let known = kept.as_ref().and_then(|(kept, origin)| kept.read(&name, origin));
        let statistics = match known.and_then(|numbers| Statistics::from_numbers(&numbers)) {
            Some(statistics) => statistics,
            None => {
                let statistics = self.learn(&tokens, style).map_err(failed)?;
                if let Some((kept, origin)) = &kept {
                    kept.write(&name, origin, &statistics.to_numbers());
                }
                statistics
            }
        };
        self.statistics.lock().insert(voice.to_owned(), statistics.clone());
        Ok(statistics)
    }

    /// Speaks a text for what can be learnt from it.
    fn learn(&self, tokens: &[i32], style: Vec<f32>) -> Result<Statistics, KokoroError> {
        let mut statistics = Statistics::default();
        self.pool.run(|| {
            let input = self.front(tokens, style, 1.0)?;
            self.vocode(&input, 0..input.frames(), 0, &mut statistics)
        })?;
        Ok(statistics)
    }

    fn style_for(&self, tokens: &[i32], voice: &str) -> Result<Vec<f32>, VoiceError> {
        self.styles
            .style(voice, tokens.len().max(MIN_STYLE_TOKENS))
            .map_err(|error| failed(error.into()))?
            .ok_or_else(|| self.unknown_voice(voice))
    }

    /// Everything before the vocoder: how long each sound is, its pitch and its features.
    fn front(
        &self,
        tokens: &[i32],
        style: Vec<f32>,
        speed: f32,
    ) -> Result<VocoderInput, KokoroError> {
        if tokens.is_empty() || tokens.len() > MAX_TOKENS {
            return Err(KokoroError::TokenCount(tokens.len()));
        }
        let mut padded = Vec::with_capacity(tokens.len() + 2);
        padded.push(0);
        padded.extend_from_slice(tokens);
        padded.push(0);
        let inputs: Vec<(NodeId, ValueOrView<'_>)> = vec![
            (self.nodes.tokens, NdTensor::from_data([1, padded.len()], padded).into()),
            (self.nodes.style, NdTensor::from_data([1, STYLE_LEN], style).into()),
            (self.nodes.speed, NdTensor::from_data([1], vec![speed]).into()),
        ];
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.pool)));
        let outputs =
            self.front.run(inputs, &self.nodes.outputs, Some(options)).map_err(KokoroError::Run)?;

        let mut outputs = outputs.into_iter();
        let aligned = signal_of(outputs.next(), INPUTS).ok_or(KokoroError::Output("alignment"))?;
        let residual =
            signal_of(outputs.next(), RESIDUALS).ok_or(KokoroError::Output("alignment"))?;
        let source =
            signal_of(outputs.next(), SOURCE_CHANNELS).ok_or(KokoroError::Output("excitation"))?;
        let styles: Option<Vec<Vec<f32>>> = outputs.map(numbers_of).collect();
        let mut styles = styles.ok_or(KokoroError::Output("styles"))?;
        let of_vocoder = styles.split_off(decoder::Styles::COUNT.min(styles.len()));
        let styles = decoder::Styles::new(styles).ok_or(KokoroError::Output("styles"))?;
        let features =
            self.decoder.run(aligned, &residual, &styles).ok_or(KokoroError::Output("shapes"))?;
        VocoderInput::new(features, source, &of_vocoder).ok_or(KokoroError::Output("shapes"))
    }

    fn vocode(
        &self,
        input: &VocoderInput,
        frames: Range<usize>,
        beyond: usize,
        statistics: &mut Statistics,
    ) -> Result<Vec<f32>, KokoroError> {
        let samples = self.vocoder.run(input, frames, beyond, statistics);
        if samples.iter().all(|sample| sample.is_finite()) {
            Ok(samples)
        } else {
            Err(KokoroError::Output("samples"))
        }
    }

    fn unknown_voice(&self, voice: &str) -> VoiceError {
        VoiceError::UnknownVoice {
            voice: voice.to_owned(),
            known: self.styles.names().collect::<Vec<_>>().join(", "),
        }
    }

    fn voice_for<'a>(
        &'a self,
        request: &'a SpeakRequest,
        dialect: &'a Dialect,
    ) -> Result<&'a str, VoiceError> {
        let voice = request.voice.as_deref().unwrap_or(dialect.default_voice);
        if self.styles.contains(voice) { Ok(voice) } else { Err(self.unknown_voice(voice)) }
    }

    /// Cuts phonemes into utterances that the model takes.
    fn utterances(&self, phonemes: &str) -> Vec<Vec<i32>> {
        let mut utterances: Vec<Vec<i32>> = vec![Vec::new()];
        for word in phonemes.split_inclusive(' ') {
            let tokens = self.vocabulary.tokens(word);
            for part in tokens.chunks(MAX_TOKENS) {
                let last = utterances.last_mut().expect("there is at least one");
                if last.len() + part.len() <= MAX_TOKENS {
                    last.extend_from_slice(part);
                } else {
                    utterances.push(part.to_vec());
                }
            }
        }
        utterances
    }
}

impl VocoderInput {
    /// `None` if the parts do not fit each other.
    fn new(features: Signal, mut source: Signal, styles: &[Vec<f32>]) -> Option<Self> {
        let fits = features.len() > 0 && source.len() == features.len() * vocoder::UPSAMPLING + 1;
        let styles = vocoder::group_styles(styles)?;
        vocoder::mend_phases(&mut source);
        fits.then_some(Self { features, source, styles })
    }
}

fn signal_of(value: Option<Value>, channels: usize) -> Option<Signal> {
    let tensor: NdTensor<f32, 3> = value?.try_into().ok()?;
    let [batch, rows, len] = tensor.shape();
    (batch == 1 && rows == channels).then(|| Signal::from_rows(rows, len, &tensor.to_vec()))
}

fn numbers_of(value: Value) -> Option<Vec<f32>> {
    let tensor: rten_tensor::Tensor<f32> = value.try_into().ok()?;
    Some(tensor.to_vec())
}

fn read(path: &Path) -> Result<Vec<u8>, KokoroError> {
    std::fs::read(path).map_err(|source| KokoroError::Io { path: path.to_owned(), source })
}

fn dialect(language: Language) -> Result<&'static Dialect, VoiceError> {
    g2p::dialect(language)
        .ok_or_else(|| VoiceError::UnsupportedLanguage { engine: ENGINE.to_owned(), language })
}

fn failed(error: KokoroError) -> VoiceError {
    VoiceError::Failed { engine: ENGINE.to_owned(), source: Box::new(error) }
}

/// The language of a voice by the first letter of its name.
fn language_of(voice: &str) -> Option<Language> {
    let code = match voice.chars().next()? {
        'a' | 'b' => "en",
        'e' => "es",
        'f' => "fr",
        'h' => "hi",
        'i' => "it",
        'j' => "ja",
        'p' => "pt",
        'z' => "zh",
        _ => return None,
    };
    code.parse().ok()
}

impl Voice for Kokoro {
    fn name(&self) -> &str {
        ENGINE
    }

    fn supports(&self, language: Language) -> bool {
        g2p::dialect(language).is_some_and(|dialect| self.styles.contains(dialect.default_voice))
    }

    fn sample_rate_hz(&self) -> u32 {
        ends::SAMPLE_RATE_HZ
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        let mut voices: Vec<VoiceInfo> = self
            .styles
            .names()
            .filter_map(|name| {
                Some(VoiceInfo {
                    engine: ENGINE.to_owned(),
                    name: name.to_owned(),
                    language: language_of(name)?,
                    learned: false,
                })
            })
            // It comes with voices of languages that only its own phonemes do well.
            .filter(|voice| self.supports(voice.language))
            .collect();
        voices.sort_by_key(|voice| {
            g2p::dialect(voice.language).is_none_or(|own| own.default_voice != voice.name)
        });
        voices
    }

    fn prepare(&self, language: Language, voice: Option<&str>) -> Result<(), VoiceError> {
        let voice = voice.unwrap_or(dialect(language)?.default_voice);
        self.statistics_of(voice).map(|_| ())
    }

    fn speak(
        &self,
        request: &SpeakRequest,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), VoiceError> {
        let dialect = dialect(request.language)?;
        let voice = self.voice_for(request, dialect)?;
        let speed = clamped_speed(request.speed);
        let clauses = clauses::split(request.language, &text::speakable(&request.text));
        let last = clauses.len().saturating_sub(1);
        let mut pending = String::new();
        let mut pause = 0;
        for (index, clause) in clauses.iter().enumerate() {
            if request.cancel.is_cancelled() {
                return Err(VoiceError::Cancelled);
            }
            let phonemes = g2p::phonemes(&self.phonemizer, dialect, clause)
                .map_err(|error| failed(error.into()))?;
            if !pending.is_empty() {
                pending.push(' ');
            }
            pending.push_str(&phonemes);
            let sounds = g2p::sounding(&pending);
            if sounds == 0 || (sounds < MIN_SOUNDS && index < last) {
                continue;
            }
            for tokens in self.utterances(&std::mem::take(&mut pending)) {
                if request.cancel.is_cancelled() {
                    return Err(VoiceError::Cancelled);
                }
                if tokens.is_empty() {
                    continue;
                }
                let mut ends = Ends::after(std::mem::take(&mut pause));
                let mut give = |samples: Vec<f32>| {
                    if samples.is_empty() { ControlFlow::Continue(()) } else { on_chunk(&samples) }
                };
                let cancel = &request.cancel;
                let flow =
                    self.synthesise_streaming(&tokens, voice, speed, cancel, &mut |samples| {
                        give(ends.push(samples))
                    })?;
                if flow.is_break() || give(ends.finish()).is_break() {
                    return Ok(());
                }
            }
            pause = ends::pause_after(clause, speed);
        }
        Ok(())
    }
}
