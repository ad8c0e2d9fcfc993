//! A door for benchmarks: the decoder's step by itself, which in a recognition lies among others.

use super::model::{Decoder, DecoderState, StatefulSpan};
use super::{StageTimes, Whisper, WhisperError};
use crate::CancelToken;
use crate::batch::Urgency;

/// Any token of the vocabulary.
const TOKEN: u32 = 100;

/// Texts of the same length over the same window.
pub struct Texts<'a> {
    decoder: &'a Decoder,
    states: Vec<DecoderState>,
    length: usize,
}

impl Whisper {
    /// So many texts of `length` tokens over a window as long as `samples_16k`.
    ///
    /// # Errors
    /// As for [`transcribe`](Self::transcribe); the texts are longer than the model can hold.
    #[doc(hidden)]
    pub fn texts(
        &self,
        samples_16k: &[f32],
        count: usize,
        length: usize,
    ) -> Result<Texts<'_>, WhisperError> {
        let (cancel, mut times) = (CancelToken::new(), StageTimes::default());
        let window = samples_16k.len();
        let audio = self.hear(samples_16k, window, Urgency::default(), &cancel, &mut times)?;
        let state = || {
            let mut state = self.decoder.new_state(length + 1)?;
            state.restart(audio.clone());
            let tokens = &vec![TOKEN; length];
            self.decoder.forward(&mut [StatefulSpan { tokens, state: &mut state }])?;
            Ok(state)
        };
        let states = (0..count).map(|_| state()).collect::<Result<_, WhisperError>>()?;
        Ok(Texts { decoder: &self.decoder, states, length })
    }
}

impl Texts<'_> {
    /// Reads one more token of each, scores what may follow, and forgets it again.
    ///
    /// # Errors
    /// The decoder does not compute.
    pub fn step(&mut self) -> Result<(), WhisperError> {
        let spans = self.states.iter_mut();
        let mut spans: Vec<_> =
            spans.map(|state| StatefulSpan { tokens: &[TOKEN], state }).collect();
        let hidden = self.decoder.forward(&mut spans)?;
        let rows: Vec<usize> = (0..self.states.len()).collect();
        self.decoder.scores(&hidden, &rows)?;
        self.states.iter_mut().for_each(|state| state.truncate(self.length));
        Ok(())
    }
}
