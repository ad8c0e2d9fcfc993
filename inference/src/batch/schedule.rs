//! The state machine of a batch: who sits in which slot, and what the next step reads.

use super::{BatchError, Choice, PredictionOf, Predictions, Sequence, SlotDecoder, Span};
use crate::CancelToken;
use crate::panics::catching;

/// A sequence that asks for a slot.
#[derive(Debug)]
pub struct Request<S> {
    /// What is to be decoded.
    pub sequence: S,
    /// Makes it leave at the next step.
    pub cancel: CancelToken,
}

/// A sequence that has left its slot, with the tag that it came with.
#[derive(Debug)]
pub struct Finished<S, T> {
    /// The tag.
    pub tag: T,
    /// The sequence, complete; or why it is not.
    pub outcome: Result<S, BatchError>,
}

/// What one step did.
#[derive(Debug)]
pub struct Stepped<S, T> {
    /// Who has left.
    pub finished: Vec<Finished<S, T>>,
    /// Slots that took part.
    pub slots: usize,
    /// Tokens read.
    pub tokens_read: usize,
    /// Tokens chosen.
    pub tokens_chosen: usize,
    /// Tokens that were drafted and read, and how many of them were chosen.
    pub tokens_drafted: usize,
    /// See [`tokens_drafted`](Self::tokens_drafted).
    pub drafts_chosen: usize,
    /// Whether the decoder was lost and made anew.
    pub restarted: bool,
}

/// The slots of one decoder, without a thread or a clock.
pub struct Batch<D: SlotDecoder, T, F> {
    decoder: D,
    make: F,
    rows: Vec<Option<Row<D::Sequence, T>>>,
    limits: StepLimits,
}

/// What one step may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepLimits {
    /// Tokens of a prompt, beside one token of everybody else.
    pub prompt_piece: usize,
    /// Tokens that a sequence may draft which is alone in the step: beside others, whose tokens fill
    /// the step, a draft costs more than it saves.
    pub drafts: usize,
}

/// What one slot reads in a step: the first `due` of the tokens have to be read, the rest is a draft.
struct Portion {
    slot: usize,
    tokens: Vec<u32>,
    due: usize,
    first: bool,
    /// Whether the sequence chooses after this.
    is_end: bool,
}

impl Portion {
    fn span(&self) -> Span<'_> {
        let drafted = self.tokens.len() - self.due;
        let last = if self.is_end { 1 + drafted } else { 0 };
        Span { slot: self.slot, tokens: &self.tokens, first: self.first, last }
    }
}

struct Row<S, T> {
    request: Request<S>,
    tag: T,
    /// Tokens that the slot holds.
    held: usize,
    /// Tokens that it has still to read before the next choice.
    unread: Vec<u32>,
    /// It was in a step that failed: it goes alone to its end, and is given up when that fails too.
    suspect: bool,
}

impl<D: SlotDecoder, T, F: FnMut() -> D> Batch<D, T, F> {
    /// A batch on the decoder that `make` makes: now, and again whenever one was lost. Prompts are
    /// read in pieces, so that those who are in the middle of a sentence do not wait long for one
    /// that begins.
    pub fn new(mut make: F, limits: StepLimits) -> Self {
        let decoder = make();
        let rows = (0..decoder.slots()).map(|_| None).collect();
        Self { decoder, make, rows, limits }
    }

    /// Slots that are taken.
    pub fn active(&self) -> usize {
        self.rows.iter().flatten().count()
    }

    /// Whether there is a free slot.
    pub fn has_room(&self) -> bool {
        self.rows.iter().any(Option::is_none)
    }

    /// Puts a request into a free slot. What cannot enter comes back at once.
    pub fn enter(
        &mut self,
        request: Request<D::Sequence>,
        tag: T,
    ) -> Option<Finished<D::Sequence, T>> {
        if request.cancel.is_cancelled() {
            return Some(Finished { tag, outcome: Err(BatchError::Cancelled) });
        }
        let Some(slot) = self.rows.iter().position(Option::is_none) else {
            return Some(Finished { tag, outcome: Err(BatchError::Full) });
        };
        self.seat(slot, Row { request, tag, held: 0, unread: Vec::new(), suspect: false })
    }

    fn seat(
        &mut self,
        slot: usize,
        mut row: Row<D::Sequence, T>,
    ) -> Option<Finished<D::Sequence, T>> {
        row.held = 0;
        row.unread = row.request.sequence.tokens();
        if row.unread.is_empty() {
            let outcome = Err(BatchError::Failed("there is nothing to begin with".to_owned()));
            return Some(Finished { tag: row.tag, outcome });
        }
        let (decoder, sequence) = (&mut self.decoder, &row.request.sequence);
        if let Err(error) = guarded(|| decoder.enter(slot, sequence)) {
            return Some(Finished { tag: row.tag, outcome: Err(error) });
        }
        self.rows[slot] = Some(row);
        None
    }

    /// Lets everybody read on and choose. Does nothing when no slot is taken.
    pub fn step(&mut self) -> Stepped<D::Sequence, T> {
        let mut stepped = Stepped {
            finished: self.dismiss_cancelled(),
            slots: 0,
            tokens_read: 0,
            tokens_chosen: 0,
            tokens_drafted: 0,
            drafts_chosen: 0,
            restarted: false,
        };
        let taking_part = self.taking_part();
        let portions = self.portions(&taking_part);
        if portions.is_empty() {
            return stepped;
        }
        let spans: Vec<Span<'_>> = portions.iter().map(Portion::span).collect();
        let decoder = &mut self.decoder;
        let outcome = guarded(|| decoder.step(&spans));
        drop(spans);
        stepped.slots = taking_part.len();
        match outcome {
            Ok(predictions) => {
                for (portion, mut predicted) in portions.into_iter().zip(predictions) {
                    stepped.tokens_read += portion.tokens.len();
                    self.advance(&portion, &mut predicted, &mut stepped);
                }
            }
            Err(error) => {
                stepped.restarted = true;
                self.recover(&taking_part, &error, &mut stepped.finished);
            }
        }
        stepped
    }

    /// What the next step reads of each slot.
    fn portions(&self, taking_part: &[usize]) -> Vec<Portion> {
        let StepLimits { prompt_piece, drafts } = self.limits;
        let drafts = if taking_part.len() == 1 { drafts } else { 0 };
        let portion = |&slot: &usize| {
            let Row { unread, held, request: Request { sequence, .. }, .. } =
                self.rows[slot].as_ref()?;
            let due = unread.len().min(prompt_piece.max(1));
            let is_end = due == unread.len();
            let first = *held == 0 && sequence.wants_first();
            let mut tokens = unread[..due].to_vec();
            if is_end && drafts > 0 {
                // A draft that cannot be had is none.
                tokens.extend(catching(|| sequence.draft(drafts)).unwrap_or_default());
                tokens.truncate(due + drafts);
            }
            Some(Portion { slot, tokens, due, first, is_end })
        };
        taking_part.iter().filter_map(portion).collect()
    }

    fn dismiss_cancelled(&mut self) -> Vec<Finished<D::Sequence, T>> {
        let cancelled = |row: &mut Row<_, _>| row.request.cancel.is_cancelled();
        let left = self.rows.iter_mut().filter_map(|row| row.take_if(cancelled));
        left.map(|row| Finished { tag: row.tag, outcome: Err(BatchError::Cancelled) }).collect()
    }

    /// Slots of the next step: all, unless one is suspect; then that one alone.
    fn taking_part(&self) -> Vec<usize> {
        let suspect = self.rows.iter().position(|row| row.as_ref().is_some_and(|row| row.suspect));
        match suspect {
            Some(slot) => vec![slot],
            None => (0..self.rows.len()).filter(|&slot| self.rows[slot].is_some()).collect(),
        }
    }

    /// A slot has read. If that was all, its sequence chooses, also after each drafted token for as
    /// long as it chooses what was drafted.
    fn advance(
        &mut self,
        portion: &Portion,
        predicted: &mut Predictions<PredictionOf<D>>,
        stepped: &mut Stepped<D::Sequence, T>,
    ) {
        let Portion { slot, due, .. } = *portion;
        let Some(row) = &mut self.rows[slot] else { return };
        row.held += due;
        row.unread.drain(..due);
        let sequence = &mut row.request.sequence;
        let drafted = &portion.tokens[due..];
        let mut chosen = 0usize;
        let choice = guarded(|| {
            if let Some(first) = &predicted.first {
                sequence.see_first(first);
            }
            let mut choice = None;
            for (place, prediction) in predicted.last.iter_mut().enumerate() {
                choice = Some(sequence.choose(prediction));
                chosen += 1;
                match (&choice, drafted.get(place)) {
                    (Some(Choice::Read(tokens)), Some(draft)) if *tokens == [*draft] => {}
                    _ => break,
                }
            }
            Ok(choice)
        });
        // Of the drafted tokens all were chosen after which something was chosen.
        let agreed = drafted.len().min(chosen.saturating_sub(1));
        row.held += agreed;
        stepped.tokens_chosen += chosen;
        stepped.tokens_drafted += drafted.len();
        stepped.drafts_chosen += agreed;
        if agreed < drafted.len() {
            self.decoder.truncate(slot, row.held);
        }
        match choice {
            Ok(None) => {}
            Ok(Some(Choice::Read(tokens))) if !tokens.is_empty() => row.unread = tokens,
            Ok(Some(Choice::Again { keep, read })) if !read.is_empty() => {
                row.held = row.held.min(keep);
                row.unread = read;
                self.decoder.truncate(slot, keep);
            }
            choice => {
                let Some(Row { request: Request { mut sequence, .. }, tag, .. }) =
                    self.rows[slot].take()
                else {
                    return;
                };
                let decoder = &mut self.decoder;
                let outcome = choice.and_then(|_| {
                    guarded(|| {
                        decoder.leave(slot, &mut sequence);
                        Ok(sequence)
                    })
                });
                stepped.finished.push(Finished { tag, outcome });
            }
        }
    }

    /// The decoder was lost with what its slots held. It is made anew, and everybody begins again;
    /// those who were in the step that failed go one by one to their end, so that one bad request
    /// takes nobody else with it, and who fails alone is given up.
    fn recover(
        &mut self,
        took_part: &[usize],
        error: &BatchError,
        finished: &mut Vec<Finished<D::Sequence, T>>,
    ) {
        self.decoder = (self.make)();
        for slot in 0..self.rows.len() {
            let Some(mut row) = self.rows[slot].take() else { continue };
            if took_part.contains(&slot) {
                if row.suspect {
                    finished.push(Finished { tag: row.tag, outcome: Err(error.clone()) });
                    continue;
                }
                row.suspect = true;
            }
            finished.extend(self.seat(slot, row));
        }
    }
}

/// Runs code of a decoder or a sequence; a panic becomes an error.
fn guarded<R>(run: impl FnOnce() -> candle_core::Result<R>) -> Result<R, BatchError> {
    match catching(run) {
        Ok(result) => result.map_err(|error| BatchError::Failed(error.to_string())),
        Err(panicked) => Err(BatchError::Failed(panicked.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Counting, Trouble, Until};
    use super::*;

    /// The tag of a sequence and what it had chosen when it left.
    type Left = (u32, Result<Vec<u32>, BatchError>);
    type TestBatch = Batch<Counting, u32, Box<dyn FnMut() -> Counting>>;

    fn batch(slots: usize, trouble: &Trouble) -> TestBatch {
        let trouble = trouble.clone();
        let limits = StepLimits { prompt_piece: 4, drafts: 3 };
        Batch::new(Box::new(move || Counting::new(slots, trouble.clone())), limits)
    }

    fn request(sequence: Until) -> Request<Until> {
        Request { sequence, cancel: CancelToken::new() }
    }

    /// Steps until nobody is left; returns who left with which tokens, and the number of steps.
    fn drain(batch: &mut TestBatch) -> (Vec<Left>, usize) {
        let (mut left, mut steps) = (Vec::new(), 0);
        while batch.active() > 0 {
            assert!(steps < 1000, "it never ends");
            steps += 1;
            let finished = batch.step().finished;
            left.extend(finished.into_iter().map(|one| (one.tag, one.outcome.map(|s| s.chosen))));
        }
        (left, steps)
    }

    #[test]
    fn each_sequence_gets_what_it_would_get_alone() {
        let prompts: [&[u32]; 3] = [&[1, 2, 3], &[5], &[2; 9]];
        let alone: Vec<_> = prompts
            .iter()
            .map(|prompt| {
                let mut batch = batch(3, &Trouble::default());
                assert!(batch.enter(request(Until::new(prompt, 4)), 0).is_none());
                drain(&mut batch).0.remove(0).1
            })
            .collect();
        let mut together = batch(3, &Trouble::default());
        for (tag, prompt) in (0..).zip(prompts) {
            assert!(together.enter(request(Until::new(prompt, 4)), tag).is_none());
        }
        let (mut left, _) = drain(&mut together);
        left.sort_by_key(|(tag, _)| *tag);
        assert_eq!(left.into_iter().map(|(_, outcome)| outcome).collect::<Vec<_>>(), alone);
    }

    #[test]
    fn a_free_slot_is_taken_while_the_others_go_on() {
        let mut batch = batch(2, &Trouble::default());
        batch.enter(request(Until::new(&[1], 2)), 0);
        batch.enter(request(Until::new(&[1], 6)), 1);
        assert!(!batch.has_room());
        let refused = batch.enter(request(Until::new(&[1], 1)), 9).expect("no room");
        assert_eq!(refused.outcome.expect_err("no room"), BatchError::Full);
        batch.step();
        let finished = batch.step().finished;
        assert_eq!(finished.iter().map(|one| one.tag).collect::<Vec<_>>(), [0]);
        assert!(batch.enter(request(Until::new(&[1], 2)), 2).is_none());
        let (left, steps) = drain(&mut batch);
        assert_eq!(left.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(steps, 4, "the longer one has not waited for the shorter ones");
    }

    #[test]
    fn a_long_prompt_is_read_in_pieces_while_the_others_choose() {
        let mut batch = batch(2, &Trouble::default());
        batch.enter(request(Until::new(&[1; 10], 1)), 0);
        batch.enter(request(Until::new(&[1], 3)), 1);
        let read: Vec<usize> = (0..3).map(|_| batch.step().tokens_read).collect();
        assert_eq!(read, [4 + 1, 4 + 1, 2 + 1]);
        assert_eq!(batch.active(), 0);
    }

    #[test]
    fn the_scores_after_the_very_first_token_are_seen_once_if_they_are_wanted() {
        let mut batch = batch(2, &Trouble::default());
        batch.enter(request(Until { after_first: Some(None), ..Until::new(&[7; 9], 2) }), 0);
        batch.enter(request(Until::new(&[5], 9)), 1);
        while batch.active() == 2 {
            for left in batch.step().finished {
                let sequence = left.outcome.expect("decoded");
                assert_eq!(sequence.after_first, Some(Some(7)));
                assert_eq!(sequence.chosen, [63, 126]);
            }
        }
    }

    #[test]
    fn a_cancelled_sequence_leaves_at_the_next_step() {
        let mut batch = batch(1, &Trouble::default());
        let cancelled = request(Until::new(&[1], 100));
        let cancel = cancelled.cancel.clone();
        batch.enter(cancelled, 0);
        assert!(batch.step().finished.is_empty());
        cancel.cancel();
        let stepped = batch.step();
        assert_eq!(stepped.slots, 0, "nothing was computed for it");
        assert!(matches!(stepped.finished[0].outcome, Err(BatchError::Cancelled)));
        assert!(batch.has_room());
    }

    #[test]
    fn a_sequence_may_go_back_and_choose_again() {
        let mut batch = batch(1, &Trouble::default());
        batch.enter(request(Until { again_after: Some(2), ..Until::new(&[1, 2], 3) }), 0);
        let (left, _) = drain(&mut batch);
        let mut plain = self::batch(1, &Trouble::default());
        plain.enter(request(Until::new(&[1, 2], 3)), 0);
        assert_eq!(left, drain(&mut plain).0);
    }

    #[test]
    fn drafts_that_are_chosen_save_steps_and_others_change_nothing() {
        // After 1, 2 it chooses 3, then 6, 12, 24, 48.
        let plain = vec![3, 6, 12, 24, 48];
        for (drafts, steps) in [
            (vec![], 5),
            (vec![vec![3]], 4),
            (vec![vec![3, 6, 12]], 2),
            (vec![vec![3, 7, 12]], 4),
            (vec![vec![9]], 5),
            // No more than it may: the last one is not read.
            (vec![vec![3, 6, 12, 24]], 2),
            // Beyond its end, and after a choice in the middle.
            (vec![vec![], vec![], vec![12, 24, 48, 96]], 3),
        ] {
            let mut batch = batch(1, &Trouble::default());
            batch.enter(request(Until { drafts: drafts.clone(), ..Until::new(&[1, 2], 5) }), 0);
            let (left, taken) = drain(&mut batch);
            assert_eq!(left, [(0, Ok(plain.clone()))], "{drafts:?}");
            assert_eq!(taken, steps, "{drafts:?}");
        }
    }

    #[test]
    fn nobody_drafts_beside_others_or_in_the_middle_of_a_prompt() {
        let drafting = || Until { drafts: vec![vec![1; 3]; 9], ..Until::new(&[1; 9], 3) };
        let mut batch = batch(2, &Trouble::default());
        batch.enter(request(drafting()), 0);
        batch.enter(request(Until::new(&[1], 2)), 1);
        let read: Vec<_> = (0..2).map(|_| batch.step()).collect();
        assert!(read.iter().all(|step| (step.tokens_read, step.tokens_drafted) == (5, 0)));
        let alone = batch.step();
        assert_eq!((alone.tokens_read, alone.tokens_drafted, alone.drafts_chosen), (1 + 3, 3, 0));
    }

    #[test]
    fn one_bad_request_takes_nobody_else_with_it() {
        let mut batch = batch(3, &Trouble { poison: Some(666), ..Trouble::default() });
        batch.enter(request(Until::new(&[1], 5)), 0);
        batch.enter(request(Until::new(&[666], 5)), 1);
        batch.enter(request(Until::new(&[3], 5)), 2);
        let (mut left, _) = drain(&mut batch);
        left.sort_by_key(|(tag, _)| *tag);
        assert!(left[0].1.is_ok() && left[2].1.is_ok());
        let failed = left[1].1.as_ref().expect_err("it was poison");
        assert!(failed.to_string().contains("poison"), "{failed}");
    }

    #[test]
    fn a_request_that_fails_again_and_again_in_its_middle_is_given_up() {
        // 1, then 1, 2, 4 and so on are chosen: 64 comes in the middle.
        let mut batch = batch(2, &Trouble { poison: Some(64), ..Trouble::default() });
        batch.enter(request(Until::new(&[1], 9)), 0);
        batch.enter(request(Until::new(&[3], 9)), 1);
        let (mut left, _) = drain(&mut batch);
        left.sort_by_key(|(tag, _)| *tag);
        assert!(left[0].1.is_err() && left[1].1.is_ok());
    }

    #[test]
    fn a_lost_device_is_replaced_and_what_was_under_way_goes_on_with_the_same_result() {
        let trouble = Trouble::default();
        let run = |lose_at: Option<usize>| {
            let mut batch = batch(2, &trouble);
            batch.enter(request(Until::new(&[1, 2], 6)), 0);
            batch.enter(request(Until::new(&[7], 6)), 1);
            let mut left = Vec::new();
            for step in 0.. {
                if lose_at == Some(step) {
                    trouble.lose_next();
                }
                let stepped = batch.step();
                assert_eq!(stepped.restarted, lose_at == Some(step));
                left.extend(
                    stepped
                        .finished
                        .into_iter()
                        .map(|one| (one.tag, one.outcome.expect("it was only delayed").chosen)),
                );
                if batch.active() == 0 {
                    break;
                }
            }
            left.sort();
            left
        };
        assert_eq!(run(Some(3)), run(None));
    }

    #[test]
    fn nothing_to_begin_with_is_an_error() {
        let mut batch = batch(1, &Trouble::default());
        let refused = batch.enter(request(Until::new(&[], 1)), 0).expect("refused");
        assert!(matches!(refused.outcome, Err(BatchError::Failed(_))));
        assert_eq!(batch.step().slots, 0);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_drafted_the_same_is_chosen(
            prompt in proptest::collection::vec(1u32..5, 1..9),
            limit in 3usize..9,
            drafts in proptest::collection::vec(proptest::collection::vec(0u32..64, 0..5), 0..9),
            again_after in proptest::option::of(1usize..3),
        ) {
            let decode = |drafts| {
                let mut batch = batch(1, &Trouble::default());
                let sequence = Until { drafts, again_after, ..Until::new(&prompt, limit) };
                batch.enter(request(sequence), 0);
                drain(&mut batch).0
            };
            proptest::prop_assert_eq!(decode(drafts), decode(Vec::new()));
        }
    }
}
