//! What every peer said in one tick, for whoever mixes it.

use std::collections::HashMap;

use super::PeerId;
use super::frames::PLAYOUT_SAMPLES;

/// The originals of one tick.
#[derive(Default)]
pub struct Originals {
    blocks: Vec<[f32; PLAYOUT_SAMPLES]>,
    used: HashMap<PeerId, usize>,
}

impl Originals {
    /// What a source said; `None` when it is silent.
    pub fn get(&self, source: PeerId) -> Option<&[f32; PLAYOUT_SAMPLES]> {
        self.used.get(&source).map(|index| &self.blocks[*index])
    }

    /// Another tick begins.
    pub fn clear(&mut self) {
        self.used.clear();
    }

    /// Keeps what `fill` writes when it returns true.
    pub fn add(&mut self, source: PeerId, fill: impl FnOnce(&mut [f32; PLAYOUT_SAMPLES]) -> bool) {
        let index = self.used.len();
        if index == self.blocks.len() {
            self.blocks.push([0.0; PLAYOUT_SAMPLES]);
        }
        if fill(&mut self.blocks[index]) {
            self.used.insert(source, index);
        }
    }
}
