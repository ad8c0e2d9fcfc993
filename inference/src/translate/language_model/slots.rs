//! The language model under the [batcher](crate::batch): its slots, and what is decoded in them.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::cache::KvCache;
use super::decoder::{CachedSpan, Decoder, SharedPrefix};
use super::draft::{Hint, lookup};
use super::math;
use crate::batch::{Choice, Predictions, Sequence, SlotDecoder, Span, of_spans, scored_rows};

/// A cache for each slot, with room for the longest request from the beginning.
pub(super) struct Slots {
    decoder: Arc<Decoder>,
    caches: Vec<KvCache>,
}

impl Slots {
    pub(super) fn new(decoder: Arc<Decoder>, slots: usize) -> Self {
        let room = decoder.config().max_context;
        let caches = (0..slots.max(1)).map(|_| decoder.new_cache(room)).collect();
        Self { decoder, caches }
    }
}

impl SlotDecoder for Slots {
    type Sequence = Reading;

    fn slots(&self) -> usize {
        self.caches.len()
    }

    fn enter(&mut self, slot: usize, sequence: &Reading) -> candle_core::Result<()> {
        self.caches[slot].restart(sequence.prefix.clone());
        Ok(())
    }

    fn step(&mut self, spans: &[Span<'_>]) -> candle_core::Result<Vec<Predictions>> {
        let caches = of_spans(spans, &mut self.caches)?;
        let mut cached: Vec<CachedSpan<'_>> = spans
            .iter()
            .zip(caches)
            .map(|(span, cache)| CachedSpan { tokens: span.tokens, cache })
            .collect();
        let hidden = self.decoder.forward_batch(&mut cached)?;
        let width = self.decoder.config().width;
        let rows = scored_rows(spans);
        if rows.is_empty() {
            return Ok(Predictions::deal(spans, Vec::new()));
        }
        let row = |row: &usize| &hidden[row * width..(row + 1) * width];
        let wanted: Vec<f32> = rows.iter().flat_map(row).copied().collect();
        let scores = self.decoder.logits(&wanted)?;
        let scores = scores.chunks_exact(scores.len() / rows.len()).map(<[f32]>::to_vec).collect();
        Ok(Predictions::deal(spans, scores))
    }

    fn truncate(&mut self, slot: usize, length: usize) {
        let prefix = self.caches[slot].prefix_len();
        self.caches[slot].truncate(prefix + length);
    }

    fn leave(&mut self, slot: usize, sequence: &mut Reading) {
        if sequence.keeps {
            sequence.prefix = Some(self.caches[slot].clone().freeze());
        }
    }
}

/// Tokens read after a prefix, and the likeliest ones after them until the turn ends; or, to become
/// a prefix, read and kept.
pub(super) struct Reading {
    /// What it goes on from. A reading that keeps leaves the keys and values of all its tokens here.
    pub(super) prefix: Option<SharedPrefix>,
    prompt: Vec<u32>,
    chosen: Vec<u32>,
    keeps: bool,
    limits: Limits,
    hint: Hint,
    /// Where the chosen tokens go; whoever receives them ends the reading by going away.
    out: Option<Sender<u32>>,
    /// How it ended.
    pub(super) end: End,
}

/// When a reading ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    /// Tokens of which any ends the turn.
    pub(super) ends: Vec<u32>,
    /// Most tokens that may be chosen.
    pub(super) cap: usize,
}

/// How a reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The model ended its turn, or a prefix was read.
    Natural,
    /// The cap was reached.
    Cap,
    /// Whoever received the tokens went away.
    Abandoned,
    /// No score was finite: the weights are damaged, or the device is.
    NotFinite,
}

impl Reading {
    /// Reads a prompt and goes on until the turn ends. `out` has room for as many tokens as the cap
    /// allows; drafts are looked up in `hint`.
    pub(super) fn answer(
        prefix: SharedPrefix,
        prompt: Vec<u32>,
        limits: Limits,
        hint: Hint,
        out: Sender<u32>,
    ) -> Self {
        Self {
            prefix: Some(prefix),
            prompt,
            chosen: Vec::with_capacity(limits.cap),
            keeps: false,
            limits,
            hint,
            out: Some(out),
            end: End::Natural,
        }
    }

    /// Reads tokens that others will go on from.
    pub(super) fn keep(tokens: Vec<u32>) -> Self {
        Self {
            prefix: None,
            prompt: tokens,
            chosen: Vec::new(),
            keeps: true,
            limits: Limits::default(),
            hint: Hint::default(),
            out: None,
            end: End::Natural,
        }
    }

    fn done(&mut self, end: End) -> Choice {
        self.end = end;
        // The receiver sees the end before it sees the outcome.
        self.out = None;
        Choice::Done
    }
}

impl Sequence for Reading {
    type Prediction = Vec<f32>;

    fn tokens(&self) -> Vec<u32> {
        [self.prompt.as_slice(), &self.chosen].concat()
    }

    fn draft(&self, most: usize) -> Vec<u32> {
        self.hint.get().map_or_else(Vec::new, |hint| lookup(hint, &self.chosen, most))
    }

    fn choose(&mut self, scores: &mut Vec<f32>) -> Choice {
        let Some(out) = &self.out else { return Choice::Done };
        let Some(token) = math::argmax(scores) else { return self.done(End::NotFinite) };
        let token = token as u32;
        if self.limits.ends.contains(&token) {
            return self.done(End::Natural);
        }
        if self.chosen.len() == self.limits.cap {
            return self.done(End::Cap);
        }
        if out.try_send(token).is_err() {
            return self.done(End::Abandoned);
        }
        self.chosen.push(token);
        Choice::Read(vec![token])
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    fn scores(likeliest: usize) -> Vec<f32> {
        (0..10).map(|token| if token == likeliest { 1.0 } else { 0.0 }).collect()
    }

    fn reading(cap: usize) -> (Reading, crossbeam_channel::Receiver<u32>) {
        let (out, tokens) = bounded(cap.max(1));
        let prefix = KvCache::new(1, 4, 0).freeze();
        let limits = Limits { ends: vec![9], cap };
        (Reading::answer(prefix, vec![1, 2], limits, Hint::default(), out), tokens)
    }

    #[test]
    fn tokens_come_out_as_they_are_chosen_and_can_be_read_again() {
        let (mut reading, tokens) = reading(5);
        assert_eq!(reading.choose(&mut scores(3)), Choice::Read(vec![3]));
        assert_eq!(reading.choose(&mut scores(4)), Choice::Read(vec![4]));
        assert_eq!(reading.tokens(), [1, 2, 3, 4]);
        assert_eq!(reading.choose(&mut scores(9)), Choice::Done);
        assert_eq!((reading.end, tokens.iter().collect::<Vec<_>>()), (End::Natural, vec![3, 4]));
    }

    #[test]
    fn a_reading_ends_at_its_cap_when_it_is_abandoned_and_when_nothing_is_likely() {
        let (mut capped, _tokens) = reading(1);
        assert_eq!(capped.choose(&mut scores(3)), Choice::Read(vec![3]));
        assert_eq!(capped.choose(&mut scores(3)), Choice::Done);
        assert_eq!(capped.end, End::Cap);
        let (mut abandoned, tokens) = reading(1);
        drop(tokens);
        assert_eq!(abandoned.choose(&mut scores(3)), Choice::Done);
        assert_eq!(abandoned.end, End::Abandoned);
        let (mut broken, _tokens) = reading(1);
        assert_eq!(broken.choose(&mut vec![f32::NAN; 10]), Choice::Done);
        assert_eq!(broken.end, End::NotFinite);
    }
}
