//! The decoder under the [batcher](crate::batch): a state for each slot.

use std::sync::Arc;

use super::dictation::Dictation;
use super::model::{Decoder, DecoderState, StatefulSpan};
use crate::batch::{Scores, SlotDecoder, Span};

/// Storage for as many requests at a time as there are slots.
pub struct Slots {
    decoder: Arc<Decoder>,
    states: Vec<DecoderState>,
}

impl Slots {
    /// Slots for requests of up to `capacity` tokens.
    pub fn new(decoder: Arc<Decoder>, slots: usize, capacity: usize) -> candle_core::Result<Self> {
        let states =
            (0..slots.max(1)).map(|_| decoder.new_state(capacity)).collect::<Result<_, _>>()?;
        Ok(Self { decoder, states })
    }
}

impl SlotDecoder for Slots {
    type Sequence = Dictation;

    fn slots(&self) -> usize {
        self.states.len()
    }

    fn enter(&mut self, slot: usize, sequence: &Dictation) -> candle_core::Result<()> {
        self.states[slot].restart(sequence.audio.clone());
        Ok(())
    }

    fn step(&mut self, spans: &[Span<'_>]) -> candle_core::Result<Vec<Scores>> {
        let mut free: Vec<Option<&mut DecoderState>> = self.states.iter_mut().map(Some).collect();
        let mut stateful = Vec::with_capacity(spans.len());
        for span in spans {
            match free[span.slot].take() {
                Some(state) => stateful.push(StatefulSpan { tokens: span.tokens, state }),
                None => candle_core::bail!("slot {} is in a step twice", span.slot),
            }
        }
        let hidden = self.decoder.forward(&mut stateful)?;
        let mut wanted = Vec::with_capacity(spans.len());
        let mut first = 0;
        for span in spans {
            wanted.extend(span.scored().map(|place| (first + place) as u32));
            first += span.tokens.len();
        }
        let scores = match wanted.as_slice() {
            [] => Vec::new(),
            rows => self.decoder.scores(&hidden, rows)?,
        };
        Ok(Scores::deal(spans, scores))
    }

    fn truncate(&mut self, slot: usize, length: usize) {
        self.states[slot].truncate(length);
    }
}
