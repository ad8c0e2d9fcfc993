//! A decoder that adds up what it reads, and a sequence that reads on for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Choice, Predictions, Sequence, SlotDecoder, Span};

/// Tokens of the test vocabulary.
pub const VOCABULARY: u32 = 1000;

/// What goes wrong with a [`Counting`] decoder.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// A token that makes it panic.
    pub poison: Option<u32>,
    pub lose: Arc<AtomicBool>,
}

impl Trouble {
    /// The next step fails as a device does that went away.
    pub fn lose_next(&self) {
        self.lose.store(true, Ordering::Relaxed);
    }
}

/// The likeliest token after some is their sum, so that nothing but a slot's own tokens, all of them
/// and each once, gives the right one.
#[derive(Debug)]
pub struct Counting {
    slots: Vec<Vec<u32>>,
    trouble: Trouble,
}

impl Counting {
    pub fn new(slots: usize, trouble: Trouble) -> Self {
        Self { slots: vec![Vec::new(); slots], trouble }
    }
}

impl SlotDecoder for Counting {
    type Sequence = Until;

    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn enter(&mut self, slot: usize, _: &Until) -> candle_core::Result<()> {
        self.slots[slot].clear();
        Ok(())
    }

    fn step(&mut self, spans: &[Span<'_>]) -> candle_core::Result<Vec<Predictions>> {
        if self.trouble.lose.swap(false, Ordering::Relaxed) {
            candle_core::bail!("the device went away");
        }
        let rows = spans.iter().map(|span| {
            assert!(!span.tokens.iter().any(|token| Some(*token) == self.trouble.poison), "poison");
            let held = &mut self.slots[span.slot];
            held.extend_from_slice(span.tokens);
            let after = |tokens: &[u32]| {
                let mut scores = vec![0.0; VOCABULARY as usize];
                scores[(tokens.iter().sum::<u32>() % VOCABULARY) as usize] = 1.0;
                scores
            };
            let places = held.len() - span.tokens.len();
            let rows = span.scored().map(|place| after(&held[..=places + place])).collect();
            Predictions::deal(&[*span], rows).remove(0)
        });
        Ok(rows.collect())
    }

    fn truncate(&mut self, slot: usize, length: usize) {
        self.slots[slot].truncate(length);
    }
}

/// Chooses the likeliest token a number of times.
#[derive(Debug)]
pub struct Until {
    pub prompt: Vec<u32>,
    pub chosen: Vec<u32>,
    pub limit: usize,
    /// After this many choices it goes back to its prompt, once.
    pub again_after: Option<usize>,
    pub first: Option<u32>,
    /// The likeliest token after the first one that was read, where that is wanted.
    pub after_first: Option<Option<u32>>,
    /// What it drafts after each of its choices, the prompt first.
    pub drafts: Vec<Vec<u32>>,
}

impl Until {
    pub fn new(prompt: &[u32], limit: usize) -> Self {
        Self {
            prompt: prompt.to_vec(),
            chosen: Vec::new(),
            limit,
            again_after: None,
            first: None,
            after_first: None,
            drafts: Vec::new(),
        }
    }
}

impl Sequence for Until {
    type Prediction = Vec<f32>;

    fn tokens(&self) -> Vec<u32> {
        [self.prompt.as_slice(), &self.chosen].concat()
    }

    fn wants_first(&self) -> bool {
        self.after_first.is_some()
    }

    fn see_first(&mut self, scores: &Vec<f32>) {
        self.after_first = Some(Some(likeliest(scores)));
    }

    fn draft(&self, _: usize) -> Vec<u32> {
        self.drafts.get(self.chosen.len()).cloned().unwrap_or_default()
    }

    fn choose(&mut self, scores: &mut Vec<f32>) -> Choice {
        let likeliest = likeliest(scores);
        let first = *self.first.get_or_insert(likeliest);
        self.chosen.push(likeliest);
        if self.again_after.take_if(|after| *after == self.chosen.len()).is_some() {
            self.chosen = vec![first];
            return Choice::Again { keep: self.prompt.len(), read: vec![first] };
        }
        if self.chosen.len() == self.limit { Choice::Done } else { Choice::Read(vec![likeliest]) }
    }
}

fn likeliest(scores: &[f32]) -> u32 {
    scores.iter().position(|score| *score > 0.5).expect("one is likely") as u32
}
