//! The voices that a model has.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use parking_lot::RwLock;

/// What a voice is to the networks.
#[derive(Debug)]
pub(super) struct VoiceTensors {
    /// To the autoregressive model and the streaming decoder, `[1, width]`.
    pub(super) autoregressive: Tensor,
    /// To the diffusion decoder, `[1, 2 * channels]`.
    pub(super) diffusion: Option<Tensor>,
}

/// Voices by their names.
#[derive(Debug, Default)]
pub(super) struct Voices {
    /// Those that the model has by itself.
    own: BTreeMap<String, Arc<VoiceTensors>>,
    learned: RwLock<BTreeMap<String, Arc<VoiceTensors>>>,
}

impl Voices {
    pub(super) fn new(own: BTreeMap<String, Arc<VoiceTensors>>) -> Self {
        Self { own, learned: RwLock::default() }
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<VoiceTensors>> {
        self.own.get(name).cloned().or_else(|| self.learned.read().get(name).cloned())
    }

    /// The one that speaks when none is named.
    pub(super) fn default_name(&self) -> Option<String> {
        self.own.keys().next().cloned()
    }

    /// Names, and whether each was learned.
    pub(super) fn names(&self) -> Vec<(String, bool)> {
        let learned = self.learned.read();
        let own = self.own.keys().map(|name| (name.clone(), false));
        own.chain(learned.keys().map(|name| (name.clone(), true))).collect()
    }

    /// Adds one; `false` if the name is taken.
    pub(super) fn add(&self, name: &str, voice: VoiceTensors) -> bool {
        let mut learned = self.learned.write();
        if self.own.contains_key(name) || learned.contains_key(name) {
            return false;
        }
        learned.insert(name.to_owned(), Arc::new(voice));
        true
    }

    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn forget(&self, name: &str) -> bool {
        self.learned.write().remove(name).is_some()
    }
}
