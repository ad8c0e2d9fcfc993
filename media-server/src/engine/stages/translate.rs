//! From words to words of another language, clause by clause on to the voice.

use std::sync::Arc;
use std::time::Instant;

use inference::panics::catching;
use inference::translate::{TranslateError, TranslateRequest, Translation};
use inference::voice::ClauseSplitter;

use super::{Stages, Task, TranslateJob, chain};
use crate::engine::{DropReason, Partial, Tier, in_time};

/// A translation on its way.
struct Progress<'a> {
    stages: &'a Stages,
    task: &'a Arc<Task>,
    splitter: ClauseSplitter,
    so_far: String,
    /// Why it is not spoken, if it is not.
    unspoken: Option<DropReason>,
}

impl Stages {
    pub(super) fn translate(&self, job: &TranslateJob) {
        let task = &job.task;
        let request = TranslateRequest {
            cancel: task.cancel.clone(),
            urgency: task.urgency(),
            ..TranslateRequest::new(job.text.as_str(), job.from, task.language)
        };
        let tier = self.tier();
        let unspoken = match tier {
            _ if !task.voiced => Some(DropReason::Overlapped),
            Tier::CaptionsOnly => Some(DropReason::Overloaded),
            _ => None,
        };
        let mut progress = Progress {
            stages: self,
            task,
            splitter: ClauseSplitter::new(task.language),
            so_far: String::new(),
            unspoken,
        };
        let rung = usize::from(tier >= Tier::CheaperTranslator);
        let models = self.models.get();
        let attempt = |progress: &mut Progress<'_>| {
            let translator = &models.translator;
            let mut take = |text: &str| progress.take(text);
            let translated = catching(|| translator.translate_from(rung, &request, &mut take));
            translated.inspect_err(|error| {
                self.translate.counts.panicked();
                tracing::error!(%error, "translation failed");
            })
        };
        let mut result = attempt(&mut progress);
        if result.is_err() && progress.so_far.is_empty() {
            result = attempt(&mut progress);
        }
        match result {
            Ok(Ok(translation)) => progress.finish(&translation),
            Ok(Err(error)) => {
                let reason = match error {
                    TranslateError::Cancelled => DropReason::Cancelled,
                    _ => DropReason::Failed,
                };
                progress.fail(reason, &chain(&error));
            }
            Err(panicked) => progress.fail(DropReason::Failed, &panicked.to_string()),
        }
    }
}

impl Progress<'_> {
    fn take(&mut self, text: &str) {
        self.so_far.push_str(text);
        let clauses = self.splitter.push(text);
        if !clauses.is_empty() {
            let Task { utterance, language, .. } = **self.task;
            let text = self.so_far.trim();
            self.stages.observer.partial(utterance, language, text, Partial::Translation);
        }
        for clause in clauses {
            self.say(clause);
        }
    }

    fn say(&mut self, clause: String) {
        let task = self.task;
        if self.unspoken.is_some() || !task.is_heard {
            return;
        }
        {
            let mut times = task.times.lock();
            if times.first_clause.is_none() {
                let now = Instant::now();
                if !in_time(&times, task.deadline, now) {
                    self.unspoken = Some(DropReason::TooLate);
                    return;
                }
                times.first_clause = Some(now);
            }
        }
        let is_to_be_handed_over = task.speech.lock().say(clause);
        if is_to_be_handed_over {
            self.stages.to_speak(task);
        }
    }

    fn finish(mut self, translation: &Translation) {
        for clause in self.splitter.finish() {
            self.say(clause);
        }
        let task = self.task;
        let times = {
            let mut times = task.times.lock();
            times.translated = Some(Instant::now());
            *times
        };
        self.stages.observer.translated(task.utterance, task.language, translation, &times);
        if !task.is_heard {
            return;
        }
        if let Some(reason) = self.unspoken {
            let detail = match reason {
                DropReason::Overlapped => "captioned only: somebody else was speaking",
                DropReason::Overloaded => {
                    "captioned only: the server has more speech than it can speak"
                }
                _ => "captioned only: the deadline for speaking had passed",
            };
            self.stages.drop_task(task, reason, detail);
            return;
        }
        if times.first_clause.is_none() {
            let detail = "the translation holds nothing that could be spoken";
            self.stages.drop_task(task, DropReason::Failed, detail);
            return;
        }
        let is_to_be_handed_over = task.speech.lock().complete();
        if is_to_be_handed_over {
            self.stages.to_speak(task);
        }
    }

    fn fail(self, reason: DropReason, detail: &str) {
        self.stages.drop_task(self.task, reason, detail);
        // What came of it before is spoken to the end.
        let has_begun = self.task.times.lock().first_clause.is_some();
        let is_to_be_handed_over = has_begun && self.task.speech.lock().complete();
        if is_to_be_handed_over {
            self.stages.to_speak(self.task);
        }
    }
}
