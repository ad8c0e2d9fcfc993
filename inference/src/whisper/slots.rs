//! The decoder under the [batcher](crate::batch): a state for each slot.

use std::sync::Arc;

use super::dictation::Dictation;
use super::model::{Decoder, DecoderState, StatefulSpan};
use crate::batch::{Predictions, SlotDecoder, Span, of_spans, scored_rows};

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

    fn step(&mut self, spans: &[Span<'_>]) -> candle_core::Result<Vec<Predictions>> {
        let states = of_spans(spans, &mut self.states)?;
        let mut stateful: Vec<StatefulSpan<'_>> = spans
            .iter()
            .zip(states)
            .map(|(span, state)| StatefulSpan { tokens: span.tokens, state })
            .collect();
        let hidden = self.decoder.forward(&mut stateful)?;
        let scores = match scored_rows(spans).as_slice() {
            [] => Vec::new(),
            rows => self.decoder.scores(&hidden, rows)?,
        };
        Ok(Predictions::deal(spans, scores))
    }

    fn truncate(&mut self, slot: usize, length: usize) {
        self.states[slot].truncate(length);
    }
}
