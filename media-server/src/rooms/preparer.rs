//! The thread that fetches voices before they are needed, so that nobody's first sentence waits for
//! one.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};
use inference::Language;

use crate::engine::Models;

/// Voices that may wait to be fetched. Full: the voice is fetched when it speaks for the first time.
const QUEUE: usize = 256;

/// Sends to the thread, which ends with this.
pub(super) struct Preparer {
    wishes: Sender<(Language, Option<String>)>,
}

impl Preparer {
    pub(super) fn start(models: Arc<Models>) -> std::io::Result<Self> {
        let (wishes, wanted) = bounded::<(Language, Option<String>)>(QUEUE);
        std::thread::Builder::new().name("voices".to_owned()).spawn(move || {
            crate::priority::give_way();
            for (language, voice) in wanted {
                models.voices.prepare(language, voice.as_deref());
            }
        })?;
        Ok(Self { wishes })
    }

    /// The voice (`None`: the language's own) is going to be needed. Does not wait.
    pub(super) fn prepare(&self, language: Language, voice: Option<String>) {
        if self.wishes.try_send((language, voice)).is_err() {
            tracing::debug!(%language, "a voice is not fetched ahead: too many wait");
        }
    }
}
