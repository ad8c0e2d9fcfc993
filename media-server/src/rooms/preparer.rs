//! The thread that fetches voices before they are needed, so that nobody's first sentence waits for
//! one.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};
use inference::Language;

use crate::engine::ModelsInUse;

/// Voices that may wait to be fetched. Full: the voice is fetched when it speaks for the first time.
const QUEUE: usize = 256;
/// Voices that are remembered for models that come later.
const REMEMBERED: usize = 1024;

/// A voice of a language; `None`: the language's own.
type Wish = (Language, Option<String>);

/// Sends to the thread, which ends with this.
pub(super) struct Preparer {
    /// A voice, or (`None`) all those before once more.
    wishes: Sender<Option<Wish>>,
}

impl Preparer {
    pub(super) fn start(models: Arc<ModelsInUse>) -> std::io::Result<Self> {
        let (wishes, wanted) = bounded::<Option<Wish>>(QUEUE);
        std::thread::Builder::new().name("voices".to_owned()).spawn(move || {
            crate::priority::give_way();
            let mut known = BTreeSet::new();
            let prepare = |(language, voice): &Wish| {
                models.get().voices.prepare(*language, voice.as_deref());
            };
            for wish in wanted {
                match wish {
                    None => known.iter().for_each(prepare),
                    Some(wish) => {
                        prepare(&wish);
                        if known.len() < REMEMBERED {
                            known.insert(wish);
                        }
                    }
                }
            }
        })?;
        Ok(Self { wishes })
    }

    /// The voice (`None`: the language's own) is going to be needed. Does not wait.
    pub(super) fn prepare(&self, language: Language, voice: Option<String>) {
        if self.wishes.try_send(Some((language, voice))).is_err() {
            tracing::debug!(%language, "a voice is not fetched ahead: too many wait");
        }
    }

    /// Other models speak now. Does not wait.
    pub(super) fn prepare_again(&self) {
        if self.wishes.try_send(None).is_err() {
            tracing::debug!("the voices in use are not fetched ahead: too many wait");
        }
    }
}
