//! What a batcher has done so far.

use std::time::Duration;

/// Numbers of one batcher since it started; those of the queue are of this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchStats {
    /// Sequences that wait for a slot.
    pub waiting: usize,
    /// Slots that are taken.
    pub active: usize,
    /// Steps by the number of slots that took part: `sizes[0]` counts those of one slot.
    pub sizes: Vec<u64>,
    /// Tokens read, prompts included.
    pub tokens_read: u64,
    /// Tokens chosen.
    pub tokens_chosen: u64,
    /// Tokens that were drafted and read, counted among those read.
    pub tokens_drafted: u64,
    /// Those of them that were chosen.
    pub drafts_chosen: u64,
    /// Time spent in steps.
    pub computed: Duration,
    /// Sequences that entered a slot.
    pub entered: u64,
    /// Time that they had waited for it, all together.
    pub waited: Duration,
    /// Times that the decoder was lost and made anew.
    pub restarts: u64,
}

impl BatchStats {
    /// Steps of any size.
    pub fn steps(&self) -> u64 {
        self.sizes.iter().sum()
    }

    /// Slots that took part in a step, on average; 0 before the first.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people to read")]
    pub fn mean_size(&self) -> f64 {
        let slots: u64 = (1..).zip(&self.sizes).map(|(size, count)| size * count).sum();
        if slots == 0 { 0.0 } else { slots as f64 / self.steps() as f64 }
    }

    pub(super) fn step(&mut self, slots: usize, tokens: usize, computed: Duration) {
        if self.sizes.len() < slots {
            self.sizes.resize(slots, 0);
        }
        if let Some(count) = slots.checked_sub(1).and_then(|index| self.sizes.get_mut(index)) {
            *count += 1;
        }
        self.tokens_read += tokens as u64;
        self.computed += computed;
    }
}
