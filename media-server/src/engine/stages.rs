//! The threads of the engine and the channels between them.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select_biased};
use inference::translate::{TranslateError, TranslateRequest, Translator};
use inference::voice::{ClauseSplitter, SpeakRequest, VoiceError};
use inference::whisper::{TranscribeOptions, Transcript, WhisperError, Window};
use inference::{CancelToken, Language};
use parking_lot::Mutex;

use super::speculation::{Guess, Recognition};
use super::{
    DropReason, EngineConfig, Job, Models, Observer, Partial, SPOKEN_RATE_HZ, Target, UtteranceId,
    in_time,
};
use crate::resample::Resampler;
use crate::trace::Times;

/// Above this probability of no speech, words that are also improbable are not believed (the
/// thresholds of the reference implementation).
const NO_SPEECH_THRESHOLD: f32 = 0.6;
const LOG_PROBABILITY_THRESHOLD: f32 = -1.0;
/// Silence between two clauses that were synthesised apart.
const CLAUSE_PAUSE_MS: u64 = 90;
/// Clauses that may wait for their synthesis; an utterance has fewer, so translation never waits.
const CLAUSE_QUEUE: usize = 256;

/// What the recognising workers are given.
pub(super) enum Work {
    /// An utterance.
    Recognise(Box<Job>),
    /// An utterance whose words were known when it ended.
    Recognised(Box<(Job, Recognition)>),
}

/// An utterance on its way into one language, shared by the translating and speaking threads.
struct Task {
    utterance: UtteranceId,
    language: Language,
    voice: Option<String>,
    times: Mutex<Times>,
    is_heard: bool,
    voiced: bool,
    cancel: CancelToken,
}

struct TranslateJob {
    task: Arc<Task>,
    from: Language,
    text: String,
}

struct SpeakJob {
    task: Arc<Task>,
    clauses: Receiver<String>,
}

/// What every thread of the engine needs.
#[derive(Clone)]
pub(super) struct Stages {
    pub(super) models: Arc<Models>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) deadline: Duration,
}

impl Stages {
    /// Starts the threads. They end when the senders are gone and all work is done.
    pub(super) fn spawn(
        &self,
        config: &EngineConfig,
        work: &Receiver<Work>,
        guesses: &Receiver<Arc<Guess>>,
    ) -> std::io::Result<Vec<JoinHandle<()>>> {
        // Full: the stage before waits, until the first queue refuses new utterances.
        let (translate_in, translate_out) = bounded(config.queue.max(1));
        let (speak_in, speak_out) = bounded(config.queue.max(1));

        let mut threads = Vec::new();
        for index in 0..config.transcribe_workers.max(1) {
            let (stages, next) = (self.clone(), translate_in.clone());
            let (work, guesses) = (work.clone(), guesses.clone());
            threads.push(named(format!("transcribe-{index}"), move || {
                stages.recognise_until_closed(&work, &guesses, &next);
            })?);
        }
        for index in 0..config.translate_workers.max(1) {
            let (stages, jobs, next) = (self.clone(), translate_out.clone(), speak_in.clone());
            threads.push(named(format!("translate-{index}"), move || {
                for job in jobs {
                    stages.translate(&job, &next);
                }
            })?);
        }
        for index in 0..config.speak_workers.max(1) {
            let (stages, jobs) = (self.clone(), speak_out.clone());
            threads.push(named(format!("speak-{index}"), move || {
                for job in jobs {
                    stages.speak(&job);
                }
            })?);
        }
        Ok(threads)
    }

    /// Utterances first; guesses only while there is nothing else to do.
    fn recognise_until_closed(
        &self,
        work: &Receiver<Work>,
        guesses: &Receiver<Arc<Guess>>,
        next: &Sender<TranslateJob>,
    ) {
        loop {
            let work = select_biased! {
                recv(work) -> work => work,
                recv(guesses) -> guess => match guess {
                    Ok(guess) => {
                        self.guess(&guess, next);
                        continue;
                    }
                    // Both senders go together; what is queued is still done.
                    Err(_) => work.recv(),
                },
            };
            match work {
                Ok(Work::Recognise(job)) => {
                    let recognition = self.recognise(&job.samples_16k, job.from, &job.cancel);
                    self.recognised(*job, recognition, next);
                }
                Ok(Work::Recognised(recognised)) => {
                    let (job, recognition) = *recognised;
                    self.recognised(job, recognition, next);
                }
                Err(_) => return,
            }
        }
    }

    fn guess(&self, guess: &Guess, next: &Sender<TranslateJob>) {
        let recognition = self.recognise(&guess.samples_16k, guess.from, &guess.cancel);
        let claimed = guess.finish(recognition, |recognition| {
            if let Ok(transcript) = &recognition.outcome
                && has_words(transcript)
                && !guess.cancel.is_cancelled()
            {
                let (language, text) = (transcript.language, transcript.text.as_str());
                self.observer.partial(guess.utterance, language, text, Partial::Transcript);
            }
        });
        if let Some((job, recognition)) = claimed {
            self.recognised(job, recognition, next);
        }
    }

    fn recognise(
        &self,
        samples_16k: &[f32],
        from: Option<Language>,
        cancel: &CancelToken,
    ) -> Recognition {
        let began = Instant::now();
        let options = TranscribeOptions {
            language: from,
            window: Window::Short,
            ..TranscribeOptions::default()
        };
        let outcome = self.models.recogniser.transcribe(samples_16k, &options, cancel);
        Recognition { outcome, began, finished: Instant::now() }
    }

    fn recognised(&self, mut job: Job, recognition: Recognition, next: &Sender<TranslateJob>) {
        let Recognition { outcome, began, finished } = recognition;
        job.times.recognised(began, finished);
        let outcome = outcome.and_then(|transcript| {
            // A guess that was claimed could not be cancelled with its utterance.
            if job.cancel.is_cancelled() { Err(WhisperError::Cancelled) } else { Ok(transcript) }
        });
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
            let task = Arc::new(Task {
                utterance: job.utterance,
                language,
                voice,
                times: Mutex::new(job.times),
                is_heard,
                voiced: job.voiced,
                cancel: job.cancel.clone(),
            });
            let text = transcript.text.clone();
            if next.send(TranslateJob { task, from: transcript.language, text }).is_err() {
                tracing::error!(utterance = %job.utterance, "the translation stage is gone");
            }
        }
    }

    fn translate(&self, job: &TranslateJob, next: &Sender<SpeakJob>) {
        let task = &job.task;
        let request = TranslateRequest {
            cancel: task.cancel.clone(),
            ..TranslateRequest::new(job.text.as_str(), job.from, task.language)
        };
        let mut splitter = ClauseSplitter::new(task.language);
        let mut so_far = String::new();
        let mut speech: Option<Sender<String>> = None;
        let mut unspoken = (!task.voiced).then_some(DropReason::Overlapped);
        let mut say = |clause: String| {
            if unspoken.is_some() || !task.is_heard {
                return;
            }
            if speech.is_none() {
                let now = Instant::now();
                let mut times = task.times.lock();
                if !in_time(&times, self.deadline, now) {
                    unspoken = Some(DropReason::TooLate);
                    return;
                }
                times.first_clause = Some(now);
                drop(times);
                let (clauses_in, clauses) = bounded(CLAUSE_QUEUE);
                if next.send(SpeakJob { task: Arc::clone(task), clauses }).is_err() {
                    tracing::error!(utterance = %task.utterance, "the speaking stage is gone");
                }
                speech = Some(clauses_in);
            }
            if let Some(clauses) = &speech
                && clauses.try_send(clause).is_err()
            {
                tracing::warn!(utterance = %task.utterance, "a clause could not be queued");
            }
        };

        let result = self.models.translator.translate(&request, &mut |text| {
            so_far.push_str(text);
            let clauses = splitter.push(text);
            if !clauses.is_empty() {
                let text = so_far.trim();
                self.observer.partial(task.utterance, task.language, text, Partial::Translation);
            }
            clauses.into_iter().for_each(&mut say);
        });
        match result {
            Ok(translation) => {
                for clause in splitter.finish() {
                    say(clause);
                }
                let times = {
                    let mut times = task.times.lock();
                    times.translated = Some(Instant::now());
                    *times
                };
                self.observer.translated(task.utterance, task.language, &translation, &times);
                if !task.is_heard {
                    return;
                }
                if let Some(reason) = unspoken {
                    let detail = match reason {
                        DropReason::Overlapped => "captioned only: somebody else was speaking",
                        _ => "captioned only: the deadline for speaking had passed",
                    };
                    self.drop_task(task, reason, detail);
                } else if times.first_clause.is_none() {
                    let detail = "the translation holds nothing that could be spoken";
                    self.drop_task(task, DropReason::Failed, detail);
                }
            }
            Err(error) => {
                let reason = match error {
                    TranslateError::Cancelled => DropReason::Cancelled,
                    _ => DropReason::Failed,
                };
                self.drop_task(task, reason, &chain(&error));
            }
        }
    }

    fn speak(&self, job: &SpeakJob) {
        let task = &job.task;
        let mut output = Output { stages: self, task, buffer: Vec::new(), at_48k: 0 };
        for clause in &job.clauses {
            let mut outcome = self.speak_clause(&clause, task, task.voice.clone(), &mut output);
            if let (Err(error @ VoiceError::UnknownVoice { .. }), Some(_)) = (&outcome, &task.voice)
            {
                tracing::warn!(%error, "taking the default voice");
                outcome = self.speak_clause(&clause, task, None, &mut output);
            }
            if let Err(error) = outcome {
                let reason = match error {
                    VoiceError::Cancelled => DropReason::Cancelled,
                    _ => DropReason::Failed,
                };
                self.drop_task(task, reason, &chain(&error));
                // The translation may go on as a caption; its clauses have nobody to speak them.
                return;
            }
        }
        let times = {
            let mut times = task.times.lock();
            times.last_samples = Some(Instant::now());
            *times
        };
        self.observer.spoken(task.utterance, task.language, &times);
    }

    fn speak_clause(
        &self,
        clause: &str,
        task: &Task,
        voice: Option<String>,
        output: &mut Output<'_>,
    ) -> Result<(), VoiceError> {
        let request = SpeakRequest {
            text: clause.to_owned(),
            language: task.language,
            voice,
            speed: 1.0,
            cancel: task.cancel.clone(),
        };
        output.pause();
        let mut resampler: Option<Resampler> = None;
        let mut refused = None;
        self.models.voices.speak(&request, &mut |chunk| {
            // The rate is known once an engine speaks, and is the same for all of its chunks.
            let resampler = match &mut resampler {
                Some(resampler) => resampler,
                empty => match Resampler::new(chunk.sample_rate_hz, SPOKEN_RATE_HZ) {
                    Ok(made) => empty.insert(made),
                    Err(error) => {
                        refused = Some(error);
                        return ControlFlow::Break(());
                    }
                },
            };
            resampler.process(chunk.samples, &mut output.buffer);
            output.release();
            ControlFlow::Continue(())
        })?;
        if let Some(error) = refused {
            let engine = "resampler".to_owned();
            return Err(VoiceError::Failed { engine, source: Box::new(error) });
        }
        if let Some(resampler) = &mut resampler {
            resampler.flush(&mut output.buffer);
        }
        output.release();
        Ok(())
    }

    fn drop_task(&self, task: &Task, reason: DropReason, detail: &str) {
        self.observer.dropped(task.utterance, Some(task.language), reason, detail);
    }
}

/// Where a clause's samples go; notes when the utterance's first ones came.
struct Output<'a> {
    stages: &'a Stages,
    task: &'a Task,
    buffer: Vec<f32>,
    /// Place in the utterance of what comes next.
    at_48k: u64,
}

impl Output<'_> {
    /// A breath between two clauses; nothing before the first.
    fn pause(&mut self) {
        if self.at_48k > 0 {
            self.at_48k += u64::from(SPOKEN_RATE_HZ) / 1000 * CLAUSE_PAUSE_MS;
        }
    }

    fn release(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let times = {
            let mut times = self.task.times.lock();
            times.first_samples.get_or_insert_with(Instant::now);
            *times
        };
        let (utterance, language) = (self.task.utterance, self.task.language);
        self.stages.observer.speech(utterance, language, self.at_48k, &self.buffer, &times);
        self.at_48k += self.buffer.len() as u64;
        self.buffer.clear();
    }
}

fn has_words(transcript: &Transcript) -> bool {
    let improbable = transcript.no_speech_probability > NO_SPEECH_THRESHOLD
        && transcript.average_log_probability < LOG_PROBABILITY_THRESHOLD;
    !improbable && transcript.text.contains(char::is_alphanumeric)
}

fn named(name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(move || {
        crate::priority::give_way();
        body();
    })
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        cause = inner.source();
    }
    line
}
