//! A sentence on its way through the autoregressive model.

use crossbeam_channel::{Receiver, bounded};

use super::{NAME, Stop, Tortoise};
use crate::CancelToken;
use crate::batch::{BatchError, Pending, Urgency};
use crate::tortoise::autoregressive::{End, Speaking, Spoken};
use crate::tortoise::voices::VoiceTensors;

/// Codes of a sentence at most, 23 s.
pub(super) const LONGEST: usize = 500;
/// A text of so many ids is read with so many codes for each, and some more, at most: the slowest
/// speech has half of it.
const CODES_PER_ID: usize = 6;
const CODES_OF_ANY: usize = 24;

/// A sentence that is being read.
pub(super) struct Reading {
    pub(super) pending: Pending<Speaking>,
    pub(super) spoken: Receiver<Spoken>,
}

impl Tortoise {
    /// A text is going to be read in a voice.
    pub(super) fn begin(
        &self,
        voice: &VoiceTensors,
        text: &[u32],
        seed: u64,
        cancel: &CancelToken,
        fades_out: bool,
    ) -> Result<Reading, BatchError> {
        let config = self.networks.autoregressive.config();
        let most =
            (CODES_OF_ANY + CODES_PER_ID * text.len()).min(LONGEST).min(config.longest_codes());
        let (out, spoken) = bounded(most);
        let how = (self.config.sampling.clone(), seed);
        let speaking = Speaking::new(config, voice.autoregressive.clone(), text, how, most, out);
        let speaking = if fades_out { speaking.fading_out() } else { speaking };
        let pending = self.batcher.submit(speaking, Urgency::default(), cancel)?;
        Ok(Reading { pending, spoken })
    }
}

/// What became of a reading, where that is no success.
pub(super) fn ended(speaking: &Speaking) -> Result<(), Stop> {
    match speaking.end() {
        End::NotFinite => Err(Stop::Failed("the model's output is no number".into())),
        End::Runaway => {
            tracing::warn!(engine = NAME, codes = speaking.codes().len(), "a reading was ended");
            Ok(())
        }
        End::Natural | End::Calm | End::Abandoned => Ok(()),
    }
}

/// Each piece of a text, and each try, is drawn with numbers of its own.
pub(super) fn piece_seed(seed: u64, piece: usize, again: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9).wrapping_add((piece as u64) << 8).wrapping_add(again)
}

pub(super) fn candidate_seed(seed: u64, index: u64) -> u64 {
    seed.wrapping_add(index << 32)
}
