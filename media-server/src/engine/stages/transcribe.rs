//! From samples to words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inference::batch::{BatchError, Urgency};
use inference::panics::catching;
use inference::whisper::{SAMPLE_RATE_HZ, TranscribeOptions, Transcript, WhisperError, Window};
use inference::{CancelToken, Language};
use parking_lot::Mutex;

use super::speech::Speech;
use super::{Stages, Task, TranslateJob, Work, chain, urgency};
use crate::engine::speculation::{Guess, Recognition};
use crate::engine::{DropReason, Job, Partial, Target};

/// Above this probability of no speech, words that are also improbable are not believed (the
/// thresholds of the reference implementation).
const NO_SPEECH_THRESHOLD: f32 = 0.6;
const LOG_PROBABILITY_THRESHOLD: f32 = -1.0;

impl Stages {
    pub(super) fn transcribe(&self, work: Work) {
        match work {
            Work::Recognise(job) => self.recognise_job(*job),
            Work::Recognised(recognised) => {
                let (job, recognition) = *recognised;
                self.recognised(job, recognition);
            }
            Work::Guess(guess) => self.guess(&guess),
        }
    }

    fn recognise_job(&self, job: Job) {
        let urgency = urgency(&job.times, job.deadline);
        let recognition = self.recognise(&job.samples_16k, job.from, urgency, &job.cancel);
        self.recognised(job, recognition);
    }

    fn guess(&self, guess: &Guess) {
        if !guess.begin(Instant::now()) {
            return;
        }
        let urgency = Urgency::guess(guess.until);
        let recognition = self.recognise(&guess.samples_16k, guess.from, urgency, &guess.cancel);
        let claimed = guess.finish(recognition, |recognition| {
            if let Ok(transcript) = &recognition.outcome
                && has_words(transcript)
                && !guess.cancel.is_cancelled()
            {
                let (language, text) = (transcript.language, transcript.text.as_str());
                self.observer.partial(guess.utterance, language, text, Partial::Transcript);
            }
        });
        match claimed {
            // It had waited too long for a guess, and is none any more.
            Some((job, Recognition { outcome: Err(WhisperError::Cancelled), .. })) => {
                self.recognise_job(job);
            }
            Some((job, recognition)) => self.recognised(job, recognition),
            None => {}
        }
    }

    fn recognise(
        &self,
        samples_16k: &[f32],
        from: Option<Language>,
        urgency: Urgency,
        cancel: &CancelToken,
    ) -> Recognition {
        let began = Instant::now();
        let options = TranscribeOptions {
            language: from,
            window: Window::Short,
            urgency,
            ..TranscribeOptions::default()
        };
        let models = self.models.get();
        let once = || {
            let attempt = catching(|| models.recogniser.transcribe(samples_16k, &options, cancel));
            attempt.inspect_err(|error| {
                self.transcribe.counts.panicked();
                tracing::error!(%error, "recognition failed");
            })
        };
        let outcome = once().or_else(|_| once()).unwrap_or_else(|panicked| {
            Err(WhisperError::Batch(BatchError::Failed(panicked.to_string())))
        });
        let seconds = samples_16k.len() as f64 / f64::from(SAMPLE_RATE_HZ);
        self.transcribe.counts.sounded(Duration::from_secs_f64(seconds));
        Recognition { outcome, began, finished: Instant::now() }
    }

    fn recognised(&self, mut job: Job, recognition: Recognition) {
        let Recognition { outcome, began, finished } = recognition;
        job.times.recognised(began, finished);
        let outcome = outcome.and_then(|transcript| {
            // A guess that was claimed could not be cancelled with its utterance.
            if job.cancel.is_cancelled() { Err(WhisperError::Cancelled) } else { Ok(transcript) }
        });
        self.unheard.settled(job.utterance, None);
        let transcript = match outcome {
            Ok(transcript) => transcript,
            Err(error) => {
                let reason = match error {
                    WhisperError::Cancelled => DropReason::Cancelled,
                    _ => DropReason::Failed,
                };
                self.observer.dropped(job.utterance, None, reason, &chain(&error));
                return;
            }
        };
        if !has_words(&transcript) {
            let detail = "the recogniser heard no words in the segment";
            self.observer.dropped(job.utterance, None, DropReason::NoSpeech, detail);
            return;
        }
        self.observer.transcribed(job.utterance, &transcript, &job.times);

        for Target { language, voice, is_heard } in job.targets {
            if language == transcript.language {
                continue;
            }
            if is_heard && job.voiced {
                let said = job.times.last_voiced;
                self.unheard.waits(job.utterance, Some(language), said, job.deadline);
            }
            let task = Arc::new(Task {
                utterance: job.utterance,
                language,
                voice,
                times: Mutex::new(job.times),
                speech: Mutex::new(Speech::default()),
                deadline: job.deadline,
                is_heard,
                voiced: job.voiced,
                cancel: job.cancel.clone(),
            });
            let urgency = task.urgency();
            let text = transcript.text.clone();
            let translate = TranslateJob { task, from: transcript.language, text };
            if self.translate.queue.push(urgency, translate).is_err() {
                tracing::error!(utterance = %job.utterance, "the translation stage is gone");
            }
        }
    }
}

fn has_words(transcript: &Transcript) -> bool {
    let improbable = transcript.no_speech_probability > NO_SPEECH_THRESHOLD
        && transcript.average_log_probability < LOG_PROBABILITY_THRESHOLD;
    !improbable && transcript.text.contains(char::is_alphanumeric)
}
