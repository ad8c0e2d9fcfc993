//! Recognition on speculation: what is heard in the pause before it is known whether the speaker
//! has finished.
//!
//! A guess is made only by a worker that has nothing else to do, and is not begun once it has waited
//! for too long. If the speaker goes on, it is retracted and costs nothing but idle time; if the pause
//! becomes the end, the utterance takes the guess over, finished or not, or makes its own way when it
//! was not begun. The ends of that race meet in [`Guess::begin`], [`Guess::finish`] and
//! [`Speculation::commit`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use inference::whisper::{Transcript, WhisperError};
use inference::{CancelToken, Language};
use parking_lot::Mutex;

use super::{Job, UtteranceId};

/// What the recogniser made of a segment, and when.
pub(super) struct Recognition {
    pub(super) outcome: Result<Transcript, WhisperError>,
    pub(super) began: Instant,
    pub(super) finished: Instant,
}

/// A recognition whose utterance may yet go on.
pub(super) struct Guess {
    pub(super) utterance: UtteranceId,
    pub(super) samples_16k: Vec<f32>,
    pub(super) from: Option<Language>,
    pub(super) cancel: CancelToken,
    /// When it is not worth beginning anymore.
    pub(super) until: Instant,
    state: Mutex<GuessState>,
}

enum GuessState {
    /// No worker has begun.
    Waiting,
    Computing,
    /// The utterance ended first: whoever computes goes on with it.
    Claimed(Box<Job>),
    /// The result came first: the utterance will find it.
    Finished(Recognition),
    /// Handed over.
    Spent,
}

impl Guess {
    pub(super) fn new(
        utterance: UtteranceId,
        samples_16k: Vec<f32>,
        from: Option<Language>,
        until: Instant,
    ) -> Self {
        Self {
            utterance,
            samples_16k,
            from,
            cancel: CancelToken::new(),
            until,
            state: Mutex::new(GuessState::Waiting),
        }
    }

    /// A worker has it. Whether it is to be computed.
    pub(super) fn begin(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let is_wanted = matches!(*state, GuessState::Waiting)
            && now <= self.until
            && !self.cancel.is_cancelled();
        *state = if is_wanted { GuessState::Computing } else { GuessState::Spent };
        is_wanted
    }

    /// Leaves the result. If the utterance ended in the meantime it comes back together with its
    /// job; otherwise `meanwhile` sees the result before anybody else can take it.
    pub(super) fn finish(
        &self,
        recognition: Recognition,
        meanwhile: impl FnOnce(&Recognition),
    ) -> Option<(Job, Recognition)> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, GuessState::Spent) {
            GuessState::Claimed(job) => Some((*job, recognition)),
            // What failed is tried again by the utterance itself.
            _ if recognition.outcome.is_err() => None,
            _ => {
                meanwhile(&recognition);
                *state = GuessState::Finished(recognition);
                None
            }
        }
    }
}

/// What became of a job that was offered to its guess.
pub(super) enum Commit {
    /// There is no guess: recognise it.
    Alone(Box<Job>),
    /// The worker that computes the guess goes on with the job.
    Claimed,
    /// The guess had been finished.
    Finished(Box<(Job, Recognition)>),
}

/// The guesses whose utterances have neither ended nor gone on: one a speaker at most.
#[derive(Default)]
pub(super) struct Speculation(Mutex<HashMap<UtteranceId, Arc<Guess>>>);

impl Speculation {
    pub(super) fn open(&self, guess: &Arc<Guess>) {
        self.0.lock().insert(guess.utterance, Arc::clone(guess));
    }

    /// The speaker went on, or left: the guess is void.
    pub(super) fn retract(&self, utterance: UtteranceId) {
        if let Some(guess) = self.0.lock().remove(&utterance) {
            guess.cancel.cancel();
        }
    }

    /// The pause became the end.
    pub(super) fn commit(&self, job: Box<Job>) -> Commit {
        let Some(guess) = self.0.lock().remove(&job.utterance) else { return Commit::Alone(job) };
        let mut state = guess.state.lock();
        match std::mem::replace(&mut *state, GuessState::Spent) {
            GuessState::Finished(recognition) => Commit::Finished(Box::new((*job, recognition))),
            GuessState::Computing => {
                *state = GuessState::Claimed(job);
                Commit::Claimed
            }
            GuessState::Waiting | GuessState::Claimed(_) | GuessState::Spent => Commit::Alone(job),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trace::Times;

    const UTTERANCE: UtteranceId = UtteranceId(3);

    fn job() -> Box<Job> {
        let now = Instant::now();
        Box::new(Job {
            utterance: UTTERANCE,
            samples_16k: Vec::new(),
            from: None,
            targets: Vec::new(),
            voiced: true,
            deadline: Duration::from_secs(6),
            times: Times::new(now, now, now),
            cancel: CancelToken::new(),
        })
    }

    fn recognition() -> Recognition {
        let began = Instant::now();
        Recognition {
            outcome: Ok(Transcript::certain("Words.", Language::EN)),
            began,
            finished: began + Duration::from_millis(250),
        }
    }

    fn open(speculation: &Speculation) -> Arc<Guess> {
        let until = Instant::now() + Duration::from_secs(1);
        let guess = Arc::new(Guess::new(UTTERANCE, Vec::new(), None, until));
        speculation.open(&guess);
        guess
    }

    fn begun(speculation: &Speculation) -> Arc<Guess> {
        let guess = open(speculation);
        assert!(guess.begin(Instant::now()));
        guess
    }

    #[test]
    fn a_guess_that_is_ready_before_the_end_is_handed_to_the_utterance() {
        let speculation = Speculation::default();
        let guess = begun(&speculation);
        let mut seen = false;
        assert!(guess.finish(recognition(), |_| seen = true).is_none());
        assert!(seen, "the result was shown while the pause went on");
        assert!(matches!(speculation.commit(job()), Commit::Finished(_)));
        assert!(matches!(speculation.commit(job()), Commit::Alone(_)), "handed over once");
    }

    #[test]
    fn an_end_before_the_guess_is_ready_leaves_the_job_to_whoever_computes() {
        let speculation = Speculation::default();
        let guess = begun(&speculation);
        assert!(matches!(speculation.commit(job()), Commit::Claimed));
        let claimed = guess.finish(recognition(), |_| panic!("nobody waits for a partial result"));
        assert_eq!(claimed.expect("the job comes back").0.utterance, UTTERANCE);
    }

    #[test]
    fn a_retracted_guess_is_cancelled_and_the_utterance_is_recognised_anew() {
        let speculation = Speculation::default();
        let guess = open(&speculation);
        speculation.retract(UTTERANCE);
        assert!(guess.cancel.is_cancelled());
        guess.finish(recognition(), |_| ());
        assert!(matches!(speculation.commit(job()), Commit::Alone(_)));
    }

    #[test]
    fn a_guess_that_failed_is_not_handed_over() {
        let speculation = Speculation::default();
        let guess = begun(&speculation);
        let failed = Recognition { outcome: Err(WhisperError::Cancelled), ..recognition() };
        assert!(guess.finish(failed, |_| panic!("there is nothing to show")).is_none());
        assert!(matches!(speculation.commit(job()), Commit::Alone(_)));
    }

    #[test]
    fn an_utterance_does_not_wait_for_a_guess_that_nobody_has_begun() {
        let speculation = Speculation::default();
        let guess = open(&speculation);
        assert!(matches!(speculation.commit(job()), Commit::Alone(_)));
        assert!(!guess.begin(Instant::now()), "it is of no use anymore");
    }

    #[test]
    fn a_guess_is_not_begun_too_late_nor_once_it_was_retracted() {
        let speculation = Speculation::default();
        let late = open(&speculation);
        assert!(!late.begin(late.until + Duration::from_millis(1)));
        let retracted = open(&speculation);
        speculation.retract(UTTERANCE);
        assert!(!retracted.begin(Instant::now()));
    }
}
