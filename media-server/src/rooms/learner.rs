//! The thread that learns voices, one at a time and as nice as everything that computes with models:
//! from recordings that were uploaded, and from what participants say who have agreed to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender};
use inference::Language;
use inference::vad::Vad;
use inference::voice::{Recording, VoiceError};
use signaling::house::{HouseError, NewVoice};
use signaling::wire::{OwnVoice, VoiceInfo};
use tokio::sync::oneshot;

use super::Shared;
use super::own_voice::OwnUse;
use super::room::RoomState;
use super::story::Targets;
use crate::audio_file::{AudioFile, AudioFileError};
use crate::catalogue;
use crate::learning::collect::clean_span;
use crate::learning::shelf::ShelfError;

/// What may wait for the thread, a segment of half a minute at most each. Full: what was said is not
/// collected, and who uploads is told to come back.
pub(super) const QUEUE: usize = 16;
/// Seconds after which who uploads may come back.
const RETRY_AFTER_S: u32 = 10;
/// Rate at which recordings are read, in Hz.
const RECORDING_RATE_HZ: u32 = 24_000;
/// Longest recordings of one voice together: 5 minutes.
const MAX_RECORDING_S: usize = 300;

/// What the thread is given.
pub(super) enum Work {
    /// Somebody said something, 16 kHz mono, whose voice this is to be.
    Said { voice: String, samples_16k: Vec<f32> },
    /// Somebody uploaded recordings.
    Uploaded { voice: NewVoice, reply: oneshot::Sender<Result<VoiceInfo, HouseError>> },
}

/// Sends to the thread, which ends with this.
pub(super) struct Learner(pub(super) Sender<Work>);

impl Learner {
    /// What was said may be collected for a voice. Does not wait.
    pub(super) fn said(&self, voice: String, samples_16k: Vec<f32>) {
        if self.0.try_send(Work::Said { voice, samples_16k }).is_err() {
            tracing::debug!("what was said is not collected: too much waits");
        }
    }

    /// Learns a voice from recordings.
    pub(super) async fn uploaded(&self, voice: NewVoice) -> Result<VoiceInfo, HouseError> {
        let (reply, answer) = oneshot::channel();
        let full = |_| HouseError::Overloaded { retry_after_s: RETRY_AFTER_S };
        self.0.try_send(Work::Uploaded { voice, reply }).map_err(full)?;
        answer.await.map_err(|_| HouseError::Internal("the learning was given up".to_owned()))?
    }
}

/// Works until the house is gone.
pub(super) fn run(shared: &Weak<Shared>, work: &Receiver<Work>) {
    crate::priority::give_way();
    for work in work {
        let Some(shared) = shared.upgrade() else { return };
        match work {
            Work::Said { voice, samples_16k } => shared.collect(&voice, &samples_16k),
            Work::Uploaded { voice, reply } => {
                // Who has gone away in the meantime wants nothing any more.
                if !reply.is_closed() {
                    let _ = reply.send(shared.learn_uploaded(&voice));
                }
            }
        }
    }
}

impl Shared {
    /// Collects what was said, and learns the voice when there is enough.
    fn collect(&self, voice: &str, samples_16k: &[f32]) {
        let probabilities = probabilities(&self.models.get().vad, samples_16k);
        let clean = match clean_span(samples_16k, &probabilities) {
            Ok(span) => &samples_16k[span],
            Err(unclean) => {
                tracing::debug!(%unclean, "a segment is not collected");
                return;
            }
        };
        let collected = {
            let mut state = self.state.lock();
            let mut rooms = state.rooms.values_mut();
            rooms.find_map(|room| room.collect(voice, clean))
        };
        if let Some(recordings) = collected {
            self.learn_own(voice, &recordings);
        }
    }

    fn learn_own(&self, voice: &str, recordings: &[Recording]) {
        let outcome = self.shelf.learn(&self.models, voice, recordings);
        let state = match &outcome {
            Ok(()) => OwnVoice::Learned,
            Err(error) => {
                tracing::warn!(%error, "a participant's own voice cannot be learned");
                OwnVoice::Failed
            }
        };
        // Who left while it was learned wants to be forgotten.
        if !self.settle_own_voice(voice, state) {
            self.shelf.forget(&self.models, voice);
        }
    }

    /// Tells the room that has it what became of a voice. Whether any has.
    pub(super) fn settle_own_voice(&self, voice: &str, outcome: OwnVoice) -> bool {
        let mut state = self.state.lock();
        let settle = |room: &mut RoomState| room.settle_own_voice(voice, outcome);
        state.rooms.values_mut().any(settle)
    }

    /// Somebody said something for whom this is the use of their own voice: it is collected, or it is
    /// to be spoken in that voice in the languages that learned voices speak.
    pub(super) fn use_own_voice(
        &self,
        own: OwnUse,
        samples_16k: &[f32],
        targets: &Targets,
        voices: &mut BTreeMap<Language, String>,
    ) {
        match own {
            OwnUse::Collect(voice) => self.learner.said(voice, samples_16k.to_vec()),
            OwnUse::Speak(voice) => {
                let models = self.models.get();
                let spoken = targets.iter().map(|(language, _)| *language);
                let spoken = spoken.filter(|language| models.voices.learned_speak(*language));
                voices.extend(spoken.map(|language| (language, voice.clone())));
            }
        }
    }

    fn learn_uploaded(&self, voice: &NewVoice) -> Result<VoiceInfo, HouseError> {
        let recordings = read_all(&voice.clips)?;
        self.shelf
            .learn(&self.models, &voice.name, &recordings)
            .map_err(|error| refusal(error, &voice.name))?;
        self.learned(&voice.name)
    }

    /// Rooms that there are already may be asked for it too.
    pub(super) fn learned(&self, name: &str) -> Result<VoiceInfo, HouseError> {
        let models = self.models.get();
        let mut state = self.state.lock();
        for room in state.rooms.values_mut() {
            room.know_voice(name, |language| models.voices.learned_speak(language));
        }
        drop(state);
        let info = catalogue::voices(&models).into_iter().find(|voice| voice.name == name);
        info.ok_or_else(|| HouseError::Internal("a learned voice is not listed".to_owned()))
    }
}

/// What the voice engine or the disk refused, as the HTTP face tells it.
pub(super) fn refusal(error: ShelfError, name: &str) -> HouseError {
    match error {
        ShelfError::Voice(VoiceError::CannotLearn { .. }) => HouseError::CannotLearn,
        ShelfError::Voice(VoiceError::NameTaken { .. }) => HouseError::VoiceExists(name.to_owned()),
        ShelfError::Voice(VoiceError::UnusableRecording { reason }) => {
            HouseError::BadRecording(reason)
        }
        ShelfError::Unknown => HouseError::NotLearned(error.to_string()),
        ShelfError::Voice(_) | ShelfError::Panicked(_) | ShelfError::Store { .. } => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            HouseError::Internal(format!("{error}: {}", cause.unwrap_or_default()))
        }
    }
}

fn probabilities(vad: &Vad, samples_16k: &[f32]) -> Vec<f32> {
    let mut probabilities = Vec::new();
    vad.stream().push(samples_16k, |probability| probabilities.push(probability));
    probabilities
}

fn read_all(clips: &[PathBuf]) -> Result<Vec<Recording>, HouseError> {
    let mut left = MAX_RECORDING_S * RECORDING_RATE_HZ as usize;
    let mut recordings = Vec::new();
    for clip in clips {
        let mut samples = Vec::new();
        for block in AudioFile::open_at(clip, RECORDING_RATE_HZ).map_err(unreadable)? {
            let block = block.map_err(unreadable)?;
            left = left.checked_sub(block.len()).ok_or_else(|| {
                let most = format!("together they are longer than {MAX_RECORDING_S} s: send less");
                HouseError::BadRecording(most)
            })?;
            samples.extend_from_slice(&block);
        }
        recordings.push(Recording { samples, rate_hz: RECORDING_RATE_HZ });
    }
    Ok(recordings)
}

/// The reason without the path, which is ours.
fn unreadable(error: AudioFileError) -> HouseError {
    const FORMATS: &str = "send wav, flac, mp3 or ogg";
    HouseError::BadRecording(match error {
        AudioFileError::Empty(_) => "a file is empty".to_owned(),
        AudioFileError::NotAudio { .. } => format!("a file is no audio that is known: {FORMATS}"),
        AudioFileError::UnsupportedCodec { reason, .. } => {
            format!("a file cannot be decoded: {reason}; {FORMATS}")
        }
        AudioFileError::Damaged { reason, .. } => format!("a file holds no sound: {reason}"),
        AudioFileError::Rate { source, .. } => source.to_string(),
        error @ (AudioFileError::Read { .. } | AudioFileError::Write { .. }) => {
            return HouseError::Internal(error.to_string());
        }
    })
}

/// What the engine needs of an upload before any of it is read.
pub(super) fn check(
    voice: &NewVoice,
    can_learn: bool,
    speak: impl Fn(Language) -> bool,
) -> Result<(), HouseError> {
    if !can_learn {
        return Err(HouseError::CannotLearn);
    }
    let Some(language) = &voice.language else { return Ok(()) };
    let spoken: Language = language.parse().map_err(|error: inference::UnknownLanguage| {
        HouseError::Invalid(format!("language: {error}"))
    })?;
    if speak(spoken) {
        return Ok(());
    }
    let known: Vec<&str> =
        Language::all().filter(|language| speak(*language)).map(Language::code).collect();
    let known = known.join(", ");
    Err(HouseError::Invalid(format!("language: learned voices speak {known}, not {spoken}")))
}

/// Starts the thread.
pub(super) fn start(shared: &Arc<Shared>, work: Receiver<Work>) -> std::io::Result<()> {
    let shared = Arc::downgrade(shared);
    std::thread::Builder::new().name("learner".to_owned()).spawn(move || run(&shared, &work))?;
    Ok(())
}
