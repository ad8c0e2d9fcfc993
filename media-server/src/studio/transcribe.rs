//! A recording, written down: decoded block by block, cut into segments by the ear that listens to
//! calls, each recognised as it ends. An hour takes no more memory than a minute.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use inference::translate::{TranslateRequest, Translator as _};
use inference::whisper::{
    SAMPLE_RATE_HZ, TranscribeOptions, Transcript, WhisperError, Window, compression_ratio,
};
use inference::{CancelToken, Language};
use signaling::studio::{StudioError, TranscribedSegment, Transcription};

use super::text;
use crate::audio_file::{AudioFile, AudioFileError};
use crate::engine::Models;
use crate::segmenter::{Ear, Event, Segment, SegmenterConfig};

/// A detected language that is this probable holds for the rest of the recording; until then each
/// segment is asked anew, since a short one may mislead.
const SETTLED: f32 = 0.8;

/// What to write down.
pub(super) struct Job {
    pub(super) path: PathBuf,
    pub(super) spoken: Option<Language>,
    pub(super) wanted: Option<Language>,
    pub(super) temperature: f32,
    pub(super) segmenter: SegmenterConfig,
    pub(super) max_s: u64,
}

impl Job {
    pub(super) fn run(
        &self,
        models: &Models,
        cancel: &CancelToken,
    ) -> Result<Transcription, StudioError> {
        let mut ear = Ear::new(&models.vad, self.segmenter.clone())
            .map_err(|error| StudioError::Internal(error.to_string()))?;
        let mut page = Page { job: self, models, cancel, language: self.spoken, said: Vec::new() };
        let mut position = 0_u64;
        let mut ended: Vec<Arc<Segment>> = Vec::new();
        for block in AudioFile::open(&self.path).map_err(bad_recording)? {
            if cancel.is_cancelled() {
                return Err(called_off());
            }
            let block = block.map_err(bad_recording)?;
            ear.hear(position, &block, |event| keep(event, &mut ended));
            position += block.len() as u64;
            if position > self.max_s * u64::from(SAMPLE_RATE_HZ) {
                let most = self.max_s;
                let detail = format!("the recording is longer than {most} s: send it in parts");
                return Err(StudioError::BadRecording(detail));
            }
            ended.drain(..).try_for_each(|segment| page.write(&segment))?;
        }
        ear.finish(|event| keep(event, &mut ended));
        ended.drain(..).try_for_each(|segment| page.write(&segment))?;
        Ok(page.finish(position))
    }
}

fn keep(event: Event, ended: &mut Vec<Arc<Segment>>) {
    if let Event::Ended { segment, .. } = event {
        ended.push(segment);
    }
}

/// What was written so far.
struct Page<'a> {
    job: &'a Job,
    models: &'a Models,
    cancel: &'a CancelToken,
    /// The language, once it is settled.
    language: Option<Language>,
    said: Vec<(Language, TranscribedSegment)>,
}

impl Page<'_> {
    fn write(&mut self, segment: &Segment) -> Result<(), StudioError> {
        let mut options = TranscribeOptions {
            language: self.language,
            window: Window::Short,
            ..TranscribeOptions::default()
        };
        if self.job.temperature > 0.0 {
            options.temperatures = vec![self.job.temperature];
        }
        let heard = self.models.recogniser.transcribe(&segment.samples_16k, &options, self.cancel);
        let heard = heard.map_err(unheard)?;
        if !heard.text.contains(char::is_alphanumeric) {
            return Ok(());
        }
        if heard.language_probability >= SETTLED {
            self.language = Some(heard.language);
        }
        let text = self.in_wanted_language(&heard)?;
        self.said.push((
            heard.language,
            TranscribedSegment {
                start: time(segment.first_voiced),
                end: time(segment.last_voiced),
                text,
                compression_ratio: compression_ratio(&heard.text),
                tokens: heard.tokens,
                temperature: heard.temperature,
                average_log_probability: heard.average_log_probability,
                no_speech_probability: heard.no_speech_probability,
            },
        ));
        Ok(())
    }

    fn in_wanted_language(&self, heard: &Transcript) -> Result<String, StudioError> {
        let Some(to) = self.job.wanted.filter(|wanted| *wanted != heard.language) else {
            return Ok(heard.text.clone());
        };
        let request = TranslateRequest {
            cancel: self.cancel.clone(),
            ..TranslateRequest::new(heard.text.as_str(), heard.language, to)
        };
        let translation = self.models.translator.translate(&request, &mut |_| {});
        Ok(translation.map_err(text::refusal)?.text)
    }

    fn finish(self, length: u64) -> Transcription {
        // Until it was settled, the segments may differ: the longest speech decides.
        let spoken = |language: Language| -> Duration {
            let said = self.said.iter().filter(|(said, _)| *said == language);
            said.map(|(_, segment)| segment.end.saturating_sub(segment.start)).sum()
        };
        let longest = self
            .said
            .iter()
            .map(|(language, _)| *language)
            .max_by_key(|language| spoken(*language));
        let language = self.language.filter(|_| !self.said.is_empty()).or(longest);
        Transcription {
            language: language.map(|language| language.to_string()),
            language_name: language.map_or("", Language::english_name).to_owned(),
            duration: time(length),
            segments: self.said.into_iter().map(|(_, segment)| segment).collect(),
        }
    }
}

fn time(position: u64) -> Duration {
    Duration::from_nanos(position * 1_000_000_000 / u64::from(SAMPLE_RATE_HZ))
}

fn called_off() -> StudioError {
    StudioError::Internal("the request was called off".to_owned())
}

fn unheard(error: WhisperError) -> StudioError {
    match error {
        WhisperError::Cancelled => called_off(),
        WhisperError::UnsupportedLanguage(_) => {
            StudioError::Invalid { field: "language", detail: error.to_string() }
        }
        error => StudioError::Internal(error.to_string()),
    }
}

/// The reason without the path, which is ours.
fn bad_recording(error: AudioFileError) -> StudioError {
    const FORMATS: &str = "Supported formats: ['flac', 'mp3', 'mpga', 'oga', 'ogg', 'wav']";
    match error {
        AudioFileError::Empty(_) => StudioError::BadRecording("the file is empty".to_owned()),
        AudioFileError::NotAudio { .. } => {
            StudioError::BadRecording(format!("Invalid file format. {FORMATS}"))
        }
        AudioFileError::UnsupportedCodec { reason, .. } => {
            StudioError::BadRecording(format!("the audio cannot be decoded: {reason}. {FORMATS}"))
        }
        AudioFileError::Damaged { reason, .. } => {
            StudioError::BadRecording(format!("the file holds no playable sound: {reason}"))
        }
        AudioFileError::Rate { source, .. } => StudioError::BadRecording(source.to_string()),
        error @ (AudioFileError::Read { .. } | AudioFileError::Write { .. }) => {
            StudioError::Internal(error.to_string())
        }
    }
}
