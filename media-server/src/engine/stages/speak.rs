//! From clauses to samples. Each clause is a turn of its own, so that a long sentence does not keep
//! another speaker's first words waiting.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inference::batch::Urgency;
use inference::panics::catching;
use inference::voice::{SpeakRequest, VoiceError};

use super::speech::Turn;
use super::{Stages, Task, chain};
use crate::engine::{DropReason, SPOKEN_RATE_HZ, Tier};
use crate::resample::Resampler;

/// Silence between two clauses that were synthesised apart.
const CLAUSE_PAUSE_MS: u64 = 90;

impl Stages {
    /// Hands a task to the voice.
    pub(super) fn to_speak(&self, task: &Arc<Task>) {
        if self.speak.queue.push(task.due(), Arc::clone(task)).is_err() {
            tracing::error!(utterance = %task.utterance, "the speaking stage is gone");
        }
    }

    pub(super) fn speak(&self, task: &Arc<Task>) {
        let turn = task.speech.lock().turn();
        match turn {
            Turn::Speak(clause) => {
                if let Err((reason, detail)) = self.speak_clause(&clause, task) {
                    // The translation may go on as a caption.
                    task.speech.lock().give_up();
                    self.drop_task(task, reason, &detail);
                }
                let stays = task.speech.lock().stays();
                if stays {
                    self.speak.queue.put_back(task.due(), Arc::clone(task));
                }
            }
            Turn::Report => {
                let times = {
                    let mut times = task.times.lock();
                    times.last_samples = Some(Instant::now());
                    *times
                };
                self.unheard.settled(task.utterance, Some(task.language));
                self.observer.spoken(task.utterance, task.language, &times);
            }
            Turn::Leave => {}
        }
    }

    fn speak_clause(&self, clause: &str, task: &Task) -> Result<(), (DropReason, String)> {
        let mut output = Output::after(self, task);
        let begin = output.at_48k;
        let attempt = |voice: &Option<String>, output: &mut Output<'_>| {
            let spoken = catching(|| self.synthesise(clause, task, voice.clone(), output));
            spoken.inspect_err(|error| {
                self.speak.counts.panicked();
                tracing::error!(%error, "synthesis failed");
            })
        };
        let mut outcome = attempt(&task.voice, &mut output);
        if let (Ok(Err(error @ VoiceError::UnknownVoice { .. })), Some(_)) = (&outcome, &task.voice)
        {
            tracing::warn!(%error, "taking the default voice");
            outcome = attempt(&None, &mut output);
        }
        if outcome.is_err() && output.at_48k == begin {
            outcome = attempt(&task.voice, &mut output);
        }
        self.speak.counts.sounded(length(output.at_48k - begin));
        task.speech.lock().spoken_48k = output.at_48k;
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ VoiceError::Cancelled)) => Err((DropReason::Cancelled, chain(&error))),
            Ok(Err(error)) => Err((DropReason::Failed, chain(&error))),
            Err(panicked) => Err((DropReason::Failed, panicked.to_string())),
        }
    }

    fn synthesise(
        &self,
        clause: &str,
        task: &Task,
        voice: Option<String>,
        output: &mut Output<'_>,
    ) -> Result<(), VoiceError> {
        let request = SpeakRequest {
            voice,
            cancel: task.cancel.clone(),
            ..SpeakRequest::new(clause, task.language)
        };
        let engine = usize::from(self.tier() >= Tier::CheaperVoice);
        let mut resampler: Option<Resampler> = None;
        let mut refused = None;
        self.models.get().voices.speak_from(engine, &request, &mut |chunk| {
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
}

impl Task {
    /// Its place among the tasks that are to be spoken: until something of it was heard, it was due
    /// when its speaker had finished; from then on it is due when what is there has been played.
    fn due(&self) -> Urgency {
        let spoken = length(self.speech.lock().spoken_48k);
        let times = self.times.lock();
        Urgency::by(times.first_samples.map_or(times.last_voiced, |first| first + spoken))
    }
}

fn length(samples_48k: u64) -> Duration {
    Duration::from_micros(samples_48k * 1000 / (u64::from(SPOKEN_RATE_HZ) / 1000))
}

/// Where a clause's samples go; notes when the utterance's first ones came.
struct Output<'a> {
    stages: &'a Stages,
    task: &'a Task,
    buffer: Vec<f32>,
    /// Place in the utterance of what comes next.
    at_48k: u64,
}

impl<'a> Output<'a> {
    /// After what was spoken of the task, and a breath; there is none before the first clause.
    fn after(stages: &'a Stages, task: &'a Task) -> Self {
        let mut at_48k = task.speech.lock().spoken_48k;
        if at_48k > 0 {
            at_48k += u64::from(SPOKEN_RATE_HZ) / 1000 * CLAUSE_PAUSE_MS;
        }
        Self { stages, task, buffer: Vec::new(), at_48k }
    }

    fn release(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let Task { utterance, language, .. } = *self.task;
        let times = {
            let mut times = self.task.times.lock();
            if times.first_samples.is_none() {
                times.first_samples = Some(Instant::now());
                self.stages.unheard.settled(utterance, Some(language));
            }
            *times
        };
        self.stages.observer.speech(utterance, language, self.at_48k, &self.buffer, &times);
        self.at_48k += self.buffer.len() as u64;
        self.buffer.clear();
    }
}
