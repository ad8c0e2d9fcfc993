//! A channel of a conference: what is said on it in one language, made once for all who hear it.
//!
//! The machine's interpretation comes out of a ring. A human interpreter takes its place: to who
//! wants nothing else their packets are passed on as they came, under the others' the floor is
//! mixed. What the ring holds meanwhile is taken out and not heard; whoever fills it decides whether
//! an utterance goes on when the ring is heard again.

use ringbuf::traits::Consumer as _;

use super::frames::{PLAYOUT_SAMPLES, PlayoutReader};
use super::inbound::Inbound;
use super::outbound::Progress;
use super::source::Source;
use super::stats::Counters;
use super::track::{Mix, Track, Voice};
use super::{ChannelId, GainStep, PeerId};
use crate::transport::TransportError;

const STEPS: usize = GainStep::GAINS.len();

/// One channel.
pub struct Channel {
    id: ChannelId,
    playout: PlayoutReader,
    said: Said,
    /// One for each step of the original's gain.
    tracks: [Track; STEPS],
    is_wanted: [bool; STEPS],
}

/// What is said on it in one tick.
struct Said {
    voice: [f32; PLAYOUT_SAMPLES],
    has_voice: bool,
    /// Utterance that has begun and not ended.
    current: Option<u64>,
    progress: Progress,
    interpreter: Option<Source>,
}

impl Channel {
    /// A channel that plays what comes out of `playout`.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when an encoder cannot be made.
    pub fn new(id: ChannelId, playout: PlayoutReader) -> Result<Self, TransportError> {
        let track = Track::new;
        let said = Said {
            voice: [0.0; PLAYOUT_SAMPLES],
            has_voice: false,
            current: None,
            progress: Progress::default(),
            interpreter: None,
        };
        let tracks = [track()?, track()?, track()?, track()?, track()?];
        Ok(Self { id, playout, said, tracks, is_wanted: [false; STEPS] })
    }

    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// From now on the sound of this human interpreter is heard, or the ring again.
    pub fn set_interpreter(&mut self, source: Option<PeerId>) {
        if self.interpreter().map(Source::id) != source {
            self.said.interpreter = source.map(Source::new);
        }
    }

    /// The human interpreter.
    #[must_use]
    pub fn interpreter(&self) -> Option<&Source> {
        self.said.interpreter.as_ref()
    }

    /// Which utterances begin and end in this tick.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.said.progress
    }

    /// First part of a tick: what is said in it. Nobody wants anything yet.
    pub fn hear<'a>(&mut self, inbound: impl Fn(PeerId) -> Option<&'a Inbound>) {
        self.is_wanted = [false; STEPS];
        let said = &mut self.said;
        said.progress = Progress::default();
        said.has_voice = false;
        if let Some(interpreter) = &mut said.interpreter {
            interpreter.hear(inbound(interpreter.id()));
            interpreter.pass_on();
        }
        let Some(frame) = self.playout.try_pop() else { return };
        let has_begun = said.current == Some(frame.utterance);
        if said.interpreter.is_some() {
            if has_begun && frame.last {
                said.progress.finished = said.current.take();
            }
            return;
        }
        said.voice = frame.samples;
        said.has_voice = true;
        if !has_begun {
            said.progress.spoken = Some(frame.utterance);
            said.current = Some(frame.utterance);
        }
        if frame.last {
            said.progress.finished = said.current.take();
        }
    }

    /// Somebody hears it in this tick with the original at this gain.
    pub fn want(&mut self, original: GainStep) {
        self.is_wanted[original.index()] = true;
    }

    /// Second part of a tick: makes the packets that are wanted. `heard` are those on the floor.
    ///
    /// # Errors
    /// [`TransportError::Stack`] when an encoder fails.
    pub fn make<'a>(
        &mut self,
        heard: &[PeerId],
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
        counters: &Counters,
    ) -> Result<(), TransportError> {
        for step in GainStep::all().filter(|step| self.is_wanted[step.index()]) {
            let mix = self.said.mix(step, heard);
            self.tracks[step.index()].tick_mix(&mix, None, &original, counters)?;
        }
        Ok(())
    }

    /// The packet of a step that was wanted, and whether a talk spurt begins with it.
    #[must_use]
    pub fn packet(&self, original: GainStep) -> (&[u8], bool) {
        self.tracks[original.index()].packet()
    }

    /// What a listener of their own hears; they leave themselves out.
    #[must_use]
    pub fn mix<'a>(&'a self, original: GainStep, heard: &'a [PeerId]) -> Mix<'a> {
        self.said.mix(original, heard)
    }
}

impl Said {
    fn mix<'a>(&'a self, original: GainStep, heard: &'a [PeerId]) -> Mix<'a> {
        let voice = Voice {
            samples: self.has_voice.then_some(&self.voice),
            is_mid_utterance: self.current.is_some(),
            is_first: self.progress.spoken.is_some(),
        };
        let interpreter = self.interpreter.as_ref().map(|human| (human.id(), human.is_speaking()));
        let gain = original.gain();
        let floor = if gain > 0.0 { heard } else { &[] };
        Mix { voice, interpreter, floor, gain, ducks: true }
    }
}
