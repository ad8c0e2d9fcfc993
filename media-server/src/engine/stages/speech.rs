//! The clauses of a task on their way to the voice: one at a time, in their order.

use std::collections::VecDeque;

/// Clauses that wait, and whether the task is with the speaking stage already.
#[derive(Debug, Default)]
pub(super) struct Speech {
    clauses: VecDeque<String>,
    /// The task waits in the stage's queue, or one of its workers has it.
    is_there: bool,
    /// No further clause comes.
    is_complete: bool,
    /// The voice failed: whatever comes has nobody to speak it.
    is_over: bool,
    /// How much was spoken, pauses between clauses included.
    pub(super) spoken_48k: u64,
}

/// What a worker does with a task.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Speaks a clause, then looks again.
    Speak(String),
    /// Reports that everything was spoken.
    Report,
    /// Nothing: it comes back with the next clause.
    Leave,
}

impl Speech {
    /// A further clause. Whether the task has to be handed to the stage.
    pub(super) fn say(&mut self, clause: String) -> bool {
        if self.is_over {
            return false;
        }
        self.clauses.push_back(clause);
        !std::mem::replace(&mut self.is_there, true)
    }

    /// No further clause comes. Whether the task has to be handed to the stage.
    pub(super) fn complete(&mut self) -> bool {
        self.is_complete = true;
        !self.is_over && !std::mem::replace(&mut self.is_there, true)
    }

    /// The voice failed.
    pub(super) fn give_up(&mut self) {
        self.is_over = true;
        self.clauses.clear();
    }

    /// What a worker that has the task does next.
    pub(super) fn turn(&mut self) -> Turn {
        if let Some(clause) = self.clauses.pop_front() {
            return Turn::Speak(clause);
        }
        if self.is_complete && !self.is_over {
            self.is_over = true;
            return Turn::Report;
        }
        self.is_there = false;
        Turn::Leave
    }

    /// Whether the worker that spoke a clause keeps the task in the stage's queue.
    pub(super) fn stays(&mut self) -> bool {
        let stays = !self.is_over && (self.is_complete || !self.clauses.is_empty());
        self.is_there = stays;
        stays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clause(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn a_task_is_handed_over_once_and_comes_back_when_there_is_more() {
        let mut speech = Speech::default();
        assert!(speech.say(clause("one")));
        assert!(!speech.say(clause("two")), "it is there already");
        assert_eq!(speech.turn(), Turn::Speak(clause("one")));
        assert!(speech.stays());
        assert_eq!(speech.turn(), Turn::Speak(clause("two")));
        assert!(!speech.stays(), "nothing more yet");
        assert!(speech.say(clause("three")), "it had left");
        assert_eq!(speech.turn(), Turn::Speak(clause("three")));
        assert!(!speech.complete(), "a worker has it");
        assert!(speech.stays());
        assert_eq!(speech.turn(), Turn::Report);
    }

    #[test]
    fn a_task_that_had_left_comes_back_to_be_reported() {
        let mut speech = Speech::default();
        speech.say(clause("one"));
        speech.turn();
        assert!(!speech.stays());
        assert!(speech.complete());
        assert_eq!(speech.turn(), Turn::Report);
        assert!(!speech.stays());
    }

    #[test]
    fn after_the_voice_has_failed_nothing_is_spoken_or_reported() {
        let mut speech = Speech::default();
        speech.say(clause("one"));
        speech.say(clause("two"));
        speech.turn();
        speech.give_up();
        assert!(!speech.stays());
        assert!(!speech.say(clause("three")));
        assert!(!speech.complete());
        assert_eq!(speech.turn(), Turn::Leave);
    }
}
