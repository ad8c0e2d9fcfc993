//! Text, spoken clause by clause into a stream of bytes.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use inference::voice::{SpeakRequest, VoiceError, VoiceSet, clauses};
use inference::{Language, text_language};
use signaling::studio::{SpeakText, Speech, StudioError};
use tokio::sync::mpsc;

use super::encode::Encoder;
use crate::resample::Resampler;

/// Pieces that may wait for whoever listens: some seconds of speech. Full: the voice waits.
const QUEUE: usize = 32;
/// How long it waits, and in which steps, before it gives a listener up who takes nothing.
const PATIENCE: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(20);
/// Silence between two clauses.
const PAUSE_MS: usize = 90;
/// Spoken when the text gives no hold and the voice is nobody's.
const DEFAULT: Language = Language::EN;

type Chunks = mpsc::Sender<Result<Vec<u8>, StudioError>>;

pub(super) fn channel() -> (Chunks, Speech) {
    mpsc::channel(QUEUE)
}

/// The language to speak: the one asked for, or else the named voice's, or else the text's.
pub(super) fn language(
    voices: &VoiceSet,
    request: &SpeakText,
    asked: Option<Language>,
) -> Result<Language, StudioError> {
    let named = request.voice.as_ref().map(|name| {
        let known = voices.voices();
        let voice = known.iter().find(|voice| voice.name == *name);
        voice.map(|voice| voice.language).ok_or_else(|| {
            let detail = format!("there is no voice {name:?}: see GET /v1/voices");
            StudioError::Invalid { field: "voice", detail }
        })
    });
    let named = named.transpose()?;
    let spoken = || Language::all().filter(|language| voices.supports(*language));
    if let Some(language) = asked.or(named) {
        return match voices.supports(language) {
            true => Ok(language),
            false => {
                let detail = format!("no voice speaks {language}");
                Err(StudioError::Invalid { field: "language", detail })
            }
        };
    }
    let found = text_language::detect(&request.text, &spoken().collect::<Vec<_>>());
    let found = found.first().map_or(DEFAULT, |(language, _)| *language);
    Ok(if voices.supports(found) { found } else { DEFAULT })
}

/// Speaks until the text is over, a voice fails, or nobody listens any more.
pub(super) fn speak(voices: &VoiceSet, request: &SpeakText, language: Language, chunks: &Chunks) {
    if let Err(Stop::Failed(error)) = speak_all(voices, request, language, chunks) {
        // Whoever is gone does not need to know why it failed.
        let _ = deliver(chunks, Err(error));
    }
}

/// Why the speech ended early.
enum Stop {
    /// Nobody listens.
    Alone,
    Failed(StudioError),
}

fn speak_all(
    voices: &VoiceSet,
    request: &SpeakText,
    language: Language,
    chunks: &Chunks,
) -> Result<(), Stop> {
    let mut encoder = Encoder::new(request.format).map_err(Stop::Failed)?;
    let rate_hz = encoder.rate_hz();
    let pause = vec![0.0; rate_hz as usize * PAUSE_MS / 1000];
    let mut samples: Vec<f32> = Vec::new();
    for (index, clause) in clauses::split(language, &request.text).into_iter().enumerate() {
        if chunks.is_closed() {
            return Err(Stop::Alone);
        }
        if index > 0 {
            samples.extend_from_slice(&pause);
        }
        let mut resampler: Option<Resampler> = None;
        let mut stop = None;
        let spoken = SpeakRequest {
            voice: request.voice.clone(),
            speed: request.speed,
            ..SpeakRequest::new(clause, language)
        };
        let outcome = voices.speak(&spoken, &mut |chunk| {
            let resampler = match &mut resampler {
                Some(resampler) => resampler,
                empty => match Resampler::new(chunk.sample_rate_hz, rate_hz) {
                    Ok(made) => empty.insert(made),
                    Err(error) => {
                        stop = Some(Stop::Failed(StudioError::Internal(error.to_string())));
                        return ControlFlow::Break(());
                    }
                },
            };
            resampler.process(chunk.samples, &mut samples);
            match encoder.push(&samples).map_err(Stop::Failed).and_then(|bytes| send(chunks, bytes))
            {
                Ok(()) => {
                    samples.clear();
                    ControlFlow::Continue(())
                }
                Err(why) => {
                    stop = Some(why);
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(stop) = stop {
            return Err(stop);
        }
        outcome.map_err(|error| Stop::Failed(refusal(error)))?;
        if let Some(resampler) = &mut resampler {
            resampler.flush(&mut samples);
        }
    }
    let rest = encoder.push(&samples).map_err(Stop::Failed)?;
    send(chunks, rest)?;
    send(chunks, encoder.finish().map_err(Stop::Failed)?)
}

fn send(chunks: &Chunks, bytes: Vec<u8>) -> Result<(), Stop> {
    if bytes.is_empty() {
        return if chunks.is_closed() { Err(Stop::Alone) } else { Ok(()) };
    }
    deliver(chunks, Ok(bytes)).map_err(|()| Stop::Alone)
}

/// Waits for room, as long as there is somebody to wait for.
fn deliver(chunks: &Chunks, item: Result<Vec<u8>, StudioError>) -> Result<(), ()> {
    let give_up = Instant::now() + PATIENCE;
    let mut item = item;
    loop {
        match chunks.try_send(item) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(()),
            Err(mpsc::error::TrySendError::Full(_)) if Instant::now() >= give_up => {
                tracing::info!("a speech is given up: its listener takes nothing");
                return Err(());
            }
            Err(mpsc::error::TrySendError::Full(back)) => item = back,
        }
        std::thread::sleep(STEP);
    }
}

fn refusal(error: VoiceError) -> StudioError {
    match error {
        VoiceError::UnknownVoice { .. } => {
            StudioError::Invalid { field: "voice", detail: error.to_string() }
        }
        VoiceError::UnsupportedLanguage { .. } => {
            StudioError::Invalid { field: "language", detail: error.to_string() }
        }
        error => StudioError::Internal(error.to_string()),
    }
}
