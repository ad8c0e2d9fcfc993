//! The model under the [batcher](crate::batch): as many sentences at a time as there are slots.
//!
//! What a sentence becomes does not depend on who else is there: a step computes one row for every
//! slot, whether it is taken or not, and each prompt is read by itself, so that every number is
//! computed in the same order each time.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor, bail};

use super::cache::KvCache;
use super::decoder::{AllSlots, Place};
use super::speaking::{CONDITION, Speaking, is_text, text_id};
use super::{Autoregressive, Prediction, Row, Sampler, Sampling};
use crate::batch::{Predictions, SlotDecoder, Span};
use crate::tortoise::random::Random;

/// Attention looks at so many places at a time.
pub(super) const WINDOW: usize = 64;

/// What one slot holds.
struct Slot {
    voice: Tensor,
    sampling: Sampling,
    random: Random,
    /// Places read.
    held: usize,
    /// Places before the first code: the voice, the text and the start of the codes.
    prompt: usize,
    /// The numbers that codes were drawn with, so that going back draws the same again.
    units: Vec<f64>,
}

impl Slot {
    /// The number that the code after the last place is drawn with.
    fn unit(&mut self) -> f64 {
        let code = self.held.saturating_sub(self.prompt);
        while self.units.len() <= code {
            self.units.push(self.random.next_unit());
        }
        self.units[code]
    }
}

/// Storage for as many sentences at a time as there are slots.
pub struct Slots {
    model: Arc<Autoregressive>,
    cache: KvCache,
    sampler: Sampler,
    slots: Vec<Option<Slot>>,
}

impl Slots {
    /// Room for `slots` sentences.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn new(model: Arc<Autoregressive>, slots: usize) -> Result<Self> {
        let slots = slots.max(1);
        let cache = model.new_cache(slots)?;
        let config = model.config();
        let sampler = Sampler::new(slots, config.mel_codes, config.start_mel);
        Ok(Self { cache, sampler, slots: (0..slots).map(|_| None).collect(), model })
    }

    fn place(&self, token: u32, index: usize, prompt: usize) -> Result<Place> {
        let first_code = prompt - 1;
        if is_text(token) || index < first_code {
            bail!("text at place {index} after a prompt of {prompt}");
        }
        self.model.mel_place(token, index - first_code)
    }

    /// Reads a prompt, or any run of places, of one slot. Gives the states after its last `last`
    /// places.
    fn read_span(&mut self, span: &Span<'_>) -> Result<Tensor> {
        let Some(Some(slot)) = self.slots.get(span.slot) else { bail!("an empty slot reads") };
        let (held, prompt) = (slot.held, slot.prompt);
        let mut places = Vec::with_capacity(span.tokens.len());
        for (offset, token) in span.tokens.iter().enumerate() {
            let index = held + offset;
            match *token {
                CONDITION if index == 0 => {}
                token if is_text(token) && index > 0 => {
                    places.push(self.model.text_place(text_id(token), index - 1)?);
                }
                token => places.push(self.place(token, index, prompt)?),
            }
        }
        let hidden = self.model.read(&slot.voice, &places, &self.cache, span.slot, held)?;
        self.note(span)?;
        if let Some(Some(slot)) = self.slots.get_mut(span.slot) {
            slot.held += span.tokens.len();
        }
        let rows = hidden.dim(0)?;
        hidden.narrow(0, rows - span.last, span.last)
    }

    /// One code in each of these slots.
    fn step_all(&mut self, spans: &[Span<'_>]) -> Result<Tensor> {
        let idle = self.model.mel_place(0, 0)?;
        let spare = self.cache.places() - 1;
        let mut reads = vec![idle; self.slots.len()];
        let mut visible = vec![1; self.slots.len()];
        for span in spans {
            let Some(Some(slot)) = self.slots.get(span.slot) else { bail!("an empty slot reads") };
            reads[span.slot] = self.place(span.tokens[0], slot.held, slot.prompt)?;
            visible[span.slot] = slot.held + 1;
        }
        let held = |slot: &Option<Slot>| slot.as_ref().map_or(spare, |slot| slot.held.min(spare));
        let places: Vec<usize> = self.slots.iter().map(held).collect();
        let reading = spans.iter().map(|span| span.slot + 1).max().unwrap_or(0);
        visible.truncate(reading);
        let window = visible.iter().max().map_or(0, |most| most.next_multiple_of(WINDOW));
        let all = AllSlots { reads: &reads, places: &places, visible: &visible, window };
        let hidden = self.model.step(&all, &self.cache)?;
        let mut rows = Vec::with_capacity(spans.len());
        for span in spans {
            self.note(span)?;
            if let Some(Some(slot)) = self.slots.get_mut(span.slot) {
                slot.held += 1;
            }
            rows.push(span.slot as u32);
        }
        let rows = Tensor::from_vec(rows, spans.len(), self.model.device())?;
        hidden.index_select(&rows, 0)
    }

    fn note(&mut self, span: &Span<'_>) -> Result<()> {
        let mut codes = span.tokens.iter().filter(|token| !is_text(**token));
        codes.try_for_each(|code| self.sampler.note(span.slot, *code))
    }

    /// Draws after each state of these slots.
    fn predict(&mut self, states: &Tensor, of: &[usize]) -> Result<Vec<Prediction>> {
        let scores = self.model.scores(states)?;
        let mut rows = Vec::with_capacity(of.len());
        for slot in of {
            let Some(Some(state)) = self.slots.get_mut(*slot) else { bail!("an empty slot draws") };
            rows.push(Row { slot: *slot, sampling: state.sampling.clone(), unit: state.unit() });
        }
        let drawn = self.sampler.draw(&scores, &rows)?;
        let latents = states.to_dtype(DType::F32)?;
        let prediction = |(row, code)| Ok(Prediction { code, latent: latents.narrow(0, row, 1)? });
        drawn.into_iter().enumerate().map(prediction).collect()
    }
}

impl SlotDecoder for Slots {
    type Sequence = Speaking;

    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn enter(&mut self, slot: usize, sequence: &Speaking) -> Result<()> {
        sequence.check(self.model.config())?;
        self.sampler.restart(slot)?;
        let Some(place) = self.slots.get_mut(slot) else { bail!("there is no slot {slot}") };
        *place = Some(Slot {
            voice: sequence.voice().clone(),
            sampling: sequence.sampling().clone(),
            random: Random::new(sequence.seed()),
            held: 0,
            prompt: sequence.prompt_len(),
            units: Vec::new(),
        });
        Ok(())
    }

    fn step(&mut self, spans: &[Span<'_>]) -> Result<Vec<Predictions<Prediction>>> {
        // Single codes of all slots in one pass, everything longer by itself.
        let is_code =
            |span: &&Span<'_>| span.tokens.len() == 1 && !is_text(span.tokens[0]) && span.last == 1;
        let codes: Vec<Span<'_>> = spans.iter().filter(is_code).copied().collect();
        let mut states = Vec::with_capacity(spans.len());
        let mut order = Vec::with_capacity(spans.len());
        if !codes.is_empty() {
            states.push(self.step_all(&codes)?);
            order.extend(codes.iter().map(|span| span.slot));
        }
        for span in spans.iter().filter(|span| !is_code(span)) {
            if span.last > 1 || span.first {
                bail!("nothing is drafted for codes");
            }
            let last = self.read_span(span)?;
            if span.last > 0 {
                states.push(last);
                order.push(span.slot);
            }
        }
        let mut predictions: Vec<Option<Prediction>> =
            (0..self.slots.len()).map(|_| None).collect();
        if !order.is_empty() {
            let states = Tensor::cat(&states, 0)?;
            for (slot, prediction) in order.iter().zip(self.predict(&states, &order)?) {
                predictions[*slot] = Some(prediction);
            }
        }
        let said = |span: &Span<'_>| Predictions {
            first: None,
            last: predictions[span.slot].take().into_iter().collect(),
        };
        Ok(spans.iter().map(said).collect())
    }

    fn truncate(&mut self, slot: usize, length: usize) {
        if let Some(Some(slot)) = self.slots.get_mut(slot) {
            slot.held = slot.held.min(length);
        }
    }

    fn leave(&mut self, slot: usize, _: &mut Speaking) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = None;
        }
    }
}
