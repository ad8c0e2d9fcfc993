//! Sound while the codes still come.

use std::ops::ControlFlow;

use candle_core::Tensor;

use super::reading::{Reading, ended, piece_seed};
use super::{Stop, Tortoise};
use crate::tortoise::autoregressive::Spoken;
use crate::tortoise::hifigan::HifiganStream;
use crate::tortoise::tempo::Tempo;
use crate::tortoise::voices::VoiceTensors;
use crate::voice::{SpeakRequest, clamped_speed};

/// Codes of the largest window of sound, about a second. The first one is of a single code.
const WINDOW: usize = 20;
/// Readings of a text that has no sound before it is given up.
const TRIES: u64 = 3;

impl Tortoise {
    /// Says the pieces of a text, each while the next one is read.
    pub(super) fn stream_pieces(
        &self,
        voice: &VoiceTensors,
        pieces: &[Vec<u32>],
        request: &SpeakRequest,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        let pace = f64::from(clamped_speed(request.speed));
        let begin = |index: usize, again: u64| {
            let text = pieces.get(index)?;
            let seed = piece_seed(self.config.seed, index, again);
            Some(self.begin(voice, text, seed, &request.cancel, false))
        };
        let mut next = begin(0, 0).transpose()?;
        for index in 0..pieces.len() {
            let mut reading = next.take();
            // The next piece is read while this one becomes sound.
            next = begin(index + 1, 0).transpose()?;
            for again in 1..=TRIES {
                let Some(current) = reading.take() else { break };
                match self.stream(voice, current, pace, on_chunk)? {
                    ControlFlow::Break(()) => return Ok(()),
                    ControlFlow::Continue(true) => break,
                    ControlFlow::Continue(false) if again < TRIES => {
                        reading = begin(index, again).transpose()?;
                    }
                    ControlFlow::Continue(false) => {
                        return Err(Stop::Failed("no reading of the text has a sound".into()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes sound of a reading while it goes on. Gives whether there was any.
    fn stream(
        &self,
        voice: &VoiceTensors,
        reading: Reading,
        pace: f64,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), bool>, Stop> {
        let (Some(hifigan), Some(sound)) = (&self.networks.hifigan, &self.sound) else {
            return Err(Stop::Failed("there is no decoder that streams".into()));
        };
        let mut stream = HifiganStream::new(hifigan, &voice.autoregressive, self.margins)?;
        let mut tempo = Tempo::new(pace);
        let mut next = 1;
        let mut any = false;
        let Reading { pending, spoken } = reading;
        while let Ok(first) = spoken.recv() {
            let mut latents = Vec::new();
            for Spoken { latent, .. } in std::iter::once(first).chain(spoken.try_iter()) {
                latents.extend(tempo.push(&latent)?);
            }
            if !latents.is_empty() {
                stream.push(&Tensor::cat(&latents, 0)?)?;
            }
            if stream.ready() >= next
                && let Some(window) = stream.window()?
            {
                any = true;
                if on_chunk(&sound.of(window)?).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                next = (2 * next).min(WINDOW);
            }
        }
        ended(&pending.wait()?)?;
        if let Some(window) = stream.finish()? {
            any = true;
            if on_chunk(&sound.of(window)?).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(any))
    }
}
