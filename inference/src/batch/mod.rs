//! Continuous batching: the requests of all sessions step through one decoder together.
//!
//! A decoder has a fixed number of *slots*, each with storage of its own that is used again and
//! again. A [`Sequence`] enters a free slot, takes part in every step with one token (with a piece
//! of its prompt at first), and leaves when it is done; another one takes its place without waiting
//! for the rest (Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative
//! Models", 2022). Which sequence enters next is a matter of [`Urgency`]. A cancelled one leaves at
//! the next step.
//!
//! [`Batch`] is the state machine, without a thread or a clock; [`Batcher`] runs it on a thread with
//! a queue before it. What the decoder runs on is its own affair: the same batcher drives a
//! processor and a graphics card.

mod batcher;
mod gate;
mod queue;
mod schedule;
mod stats;
#[cfg(test)]
mod testing;
mod urgency;

pub use batcher::{BatchConfig, Batcher, Pending};
pub use gate::{Gate, Permit};
pub use queue::{Full, PriorityQueue, Waited};
pub use schedule::{Batch, Finished, Request, StepLimits, Stepped};
pub use stats::BatchStats;
pub use urgency::{Class, Urgency};

/// What a decoder is asked to read in one step: tokens of one slot, after those that it holds.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// Which slot.
    pub slot: usize,
    /// One token of a sequence under way, or a piece of a prompt; then what was drafted.
    pub tokens: &'a [u32],
    /// Whether the scores of the token that follows the first one are wanted.
    pub first: bool,
    /// After how many of the last tokens the scores of the one that follows are wanted: none before
    /// the end of a prompt, otherwise one, and one more for each that was drafted.
    pub last: usize,
}

impl Span<'_> {
    /// Places among the span's tokens whose scores are wanted, in order.
    pub fn scored(&self) -> impl Iterator<Item = usize> {
        let first = self.first.then_some(0);
        first.into_iter().chain(self.tokens.len() - self.last..self.tokens.len())
    }
}

/// The storage of each span's slot, in the order of the spans.
///
/// # Errors
/// A slot is named twice, or does not exist.
pub fn of_spans<'a, T>(
    spans: &[Span<'_>],
    storage: &'a mut [T],
) -> candle_core::Result<Vec<&'a mut T>> {
    let mut free: Vec<Option<&mut T>> = storage.iter_mut().map(Some).collect();
    let take = |span: &Span<'_>| match free.get_mut(span.slot).and_then(Option::take) {
        Some(storage) => Ok(storage),
        None => candle_core::bail!("slot {} is in a step twice, or is none", span.slot),
    };
    spans.iter().map(take).collect()
}

/// Places whose scores are wanted, counted over the tokens of all spans.
pub fn scored_rows(spans: &[Span<'_>]) -> Vec<usize> {
    let mut first = 0;
    let mut rows = Vec::with_capacity(spans.len());
    for span in spans {
        rows.extend(span.scored().map(|place| first + place));
        first += span.tokens.len();
    }
    rows
}

/// What a decoder says of one span, after each place that was asked for: mostly a score for each
/// token of the vocabulary; see [`Sequence::Prediction`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions<P = Vec<f32>> {
    /// After its first token, where asked for.
    pub first: Option<P>,
    /// After each of its last tokens that were asked for.
    pub last: Vec<P>,
}

impl<P> Predictions<P> {
    /// Deals rows, one for each place that [`Span::scored`] names, to the spans.
    pub fn deal(spans: &[Span<'_>], rows: Vec<P>) -> Vec<Self> {
        let mut rows = rows.into_iter();
        let mut next = |wanted: usize| rows.by_ref().take(wanted).collect::<Vec<_>>();
        let deal = |span: &Span<'_>| Self {
            first: next(usize::from(span.first)).pop(),
            last: next(span.last),
        };
        spans.iter().map(deal).collect()
    }
}

/// A decoder with a fixed number of slots.
pub trait SlotDecoder {
    /// What it decodes.
    type Sequence: Sequence;

    /// How many sequences it holds at a time.
    fn slots(&self) -> usize;

    /// Makes a slot ready for a sequence; what it held is forgotten.
    ///
    /// # Errors
    /// The sequence does not fit a slot.
    fn enter(&mut self, slot: usize, sequence: &Self::Sequence) -> candle_core::Result<()>;

    /// Reads all spans, each of another slot. Returns what is predicted after each.
    ///
    /// # Errors
    /// The device fails. What the slots hold is then unknown.
    fn step(
        &mut self,
        spans: &[Span<'_>],
    ) -> candle_core::Result<Vec<Predictions<PredictionOf<Self>>>>;

    /// Forgets what a slot holds after its first `length` tokens.
    fn truncate(&mut self, slot: usize, length: usize);

    /// A sequence is complete and leaves its slot: what it wants to keep of it is taken now.
    fn leave(&mut self, slot: usize, sequence: &mut Self::Sequence) {
        let _ = (slot, sequence);
    }
}

/// What the sequences of a decoder choose from.
pub type PredictionOf<D> = <<D as SlotDecoder>::Sequence as Sequence>::Prediction;

/// One request's way through a decoder: decides on the tokens.
pub trait Sequence {
    /// What it is told of the token that follows: a score for each of the vocabulary, or, where the
    /// decoder draws for all slots together, what was drawn.
    type Prediction;

    /// All tokens that a slot has to hold before the next choice: the prompt, and whatever was chosen
    /// since. Asked when the sequence enters, also for the second time after a decoder was lost.
    fn tokens(&self) -> Vec<u32>;

    /// Whether what is predicted after the very first token says something, whatever follows it.
    fn wants_first(&self) -> bool {
        false
    }

    /// What is predicted after the very first token, where that is wanted.
    fn see_first(&mut self, prediction: &Self::Prediction) {
        let _ = prediction;
    }

    /// At most so many tokens that probably follow those that are read next. They are read in the
    /// same step, and each that is then chosen saves a step (speculative decoding: Leviathan et al.,
    /// "Fast Inference from Transformers via Speculative Decoding", 2023). What is chosen does not
    /// depend on them.
    fn draft(&self, most: usize) -> Vec<u32> {
        let _ = most;
        Vec::new()
    }

    /// Chooses, given what is predicted of the token that follows.
    fn choose(&mut self, prediction: &mut Self::Prediction) -> Choice;
}

/// What a sequence wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// These tokens are read, at least one.
    Read(Vec<u32>),
    /// All but the first `keep` tokens are forgotten, then these are read, at least one.
    Again {
        /// Tokens that stay.
        keep: usize,
        /// Tokens to read after them.
        read: Vec<u32>,
    },
    /// Nothing: it is complete.
    Done,
}

/// Why a sequence was not decoded to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// It was cancelled, or was a speculation that waited beyond its deadline.
    #[error("cancelled")]
    Cancelled,
    /// Too many wait already: try again later.
    #[error("the queue of the decoder is full")]
    Full,
    /// The decoder failed, twice where a second try could help.
    #[error("the decoder failed: {0}")]
    Failed(String),
    /// The batcher has ended.
    #[error("the decoder has ended")]
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(slot: usize, tokens: &[u32], first: bool, last: usize) -> Span<'_> {
        Span { slot, tokens, first, last }
    }

    #[test]
    fn scored_rows_count_over_all_spans_and_are_dealt_back_to_them() {
        let spans =
            [span(2, &[1, 2, 3], true, 1), span(0, &[4, 5], false, 0), span(1, &[6, 7], false, 2)];
        assert_eq!(scored_rows(&spans), [0, 2, 5, 6]);
        let dealt = Predictions::deal(&spans, vec![0.0, 2.0, 5.0, 6.0]);
        let of = |first: Option<f32>, last: &[f32]| Predictions { first, last: last.to_vec() };
        assert_eq!(dealt, [of(Some(0.0), &[2.0]), of(None, &[]), of(None, &[5.0, 6.0])]);
    }

    #[test]
    fn each_span_gets_the_storage_of_its_slot_and_no_slot_is_given_twice() {
        let mut storage = ["a", "b", "c"];
        let spans = [span(2, &[1], false, 1), span(0, &[1], false, 1)];
        let given = of_spans(&spans, &mut storage).expect("different slots");
        assert_eq!(given, [&mut "c", &mut "a"]);
        let twice = [span(1, &[1], false, 1), span(1, &[2], false, 1)];
        assert!(of_spans(&twice, &mut storage).is_err());
        assert!(of_spans(&[span(3, &[1], false, 1)], &mut storage).is_err());
    }
}
