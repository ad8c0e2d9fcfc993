//! One sentence on its way through the model.

use candle_core::{Result, Tensor, bail};
use crossbeam_channel::Sender;

use super::{AutoregressiveConfig, CALM_RUN, Sampling};
use crate::batch::{Choice, Sequence};

/// The place of a voice in a prompt.
pub(super) const CONDITION: u32 = u32::MAX;
/// Ids of text are numbered from here on, above all codes.
const FIRST_TEXT: u32 = 1 << 20;

/// Whether a token of a prompt is no code.
pub(super) fn is_text(token: u32) -> bool {
    token >= FIRST_TEXT
}

/// The id of a text's token.
pub(super) fn text_id(token: u32) -> u32 {
    token - FIRST_TEXT
}

/// What the model says of the code that follows.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// What was drawn; `None` when no score was a number.
    pub code: Option<u32>,
    /// The state that it was drawn in, `[1, width]` in single precision.
    pub latent: Tensor,
}

/// A code and its latent, as soon as it is there.
#[derive(Clone, Debug)]
pub struct Spoken {
    /// The code.
    pub code: u32,
    /// The state that it was chosen in, `[1, width]` in single precision.
    pub latent: Tensor,
}

/// How a sentence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model stopped.
    Natural,
    /// It was calm for longer than a pause.
    Calm,
    /// It did not stop: as many codes were chosen as were allowed.
    Runaway,
    /// Whoever received the codes went away.
    Abandoned,
    /// No score was a number: the weights are damaged, or the device is.
    NotFinite,
}

/// A text that becomes codes in a voice.
#[derive(Debug)]
pub struct Speaking {
    voice: Tensor,
    text: Vec<u32>,
    prompt: Vec<u32>,
    codes: Vec<u32>,
    sampling: Sampling,
    seed: u64,
    most: usize,
    calm: u32,
    stop: u32,
    /// Codes that follow the stop: calm ones, whose latents let the sound fade out.
    tail: usize,
    stopped: bool,
    run: usize,
    out: Option<Sender<Spoken>>,
    end: End,
}

impl Speaking {
    /// `text` are ids without start and stop, `voice` is `[1, width]`. At most `most` codes are chosen,
    /// each of which goes into `out`, which has to have room for all of them.
    pub fn new(
        config: &AutoregressiveConfig,
        voice: Tensor,
        text: &[u32],
        (sampling, seed): (Sampling, u64),
        most: usize,
        out: Sender<Spoken>,
    ) -> Self {
        let start = [config.start_text];
        let stops = [config.stop_text; 2];
        let ids = start.iter().chain(text).chain(&stops).map(|id| FIRST_TEXT.saturating_add(*id));
        let prompt = [CONDITION].into_iter().chain(ids).chain([config.start_mel]).collect();
        Self {
            voice,
            text: text.to_vec(),
            prompt,
            codes: Vec::new(),
            sampling,
            seed,
            most: most.min(config.longest_codes()),
            calm: config.calm,
            stop: config.stop_mel,
            tail: 0,
            stopped: false,
            run: 0,
            out: Some(out),
            end: End::Natural,
        }
    }

    /// Goes on for as many calm codes after the stop as are heard before they would be cut off.
    #[must_use]
    pub fn fading_out(mut self) -> Self {
        self.tail = CALM_RUN;
        self
    }

    /// The codes that were chosen, and after them those that it faded out with.
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// How it ended.
    pub fn end(&self) -> End {
        self.end
    }

    pub(super) fn voice(&self) -> &Tensor {
        &self.voice
    }

    pub(super) fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn prompt_len(&self) -> usize {
        self.prompt.len()
    }

    /// # Errors
    /// The model cannot read this.
    pub(super) fn check(&self, config: &AutoregressiveConfig) -> Result<()> {
        self.sampling.check()?;
        if self.text.is_empty() || self.text.len() > config.longest_text() {
            let most = config.longest_text();
            bail!("{} ids of text: from 1 to {most} are read", self.text.len());
        }
        if let Some(id) = self.text.iter().find(|id| **id as usize >= config.text_tokens) {
            bail!("the id {id} is in no vocabulary of {}", config.text_tokens);
        }
        if self.voice.dims() != [1, config.width] {
            bail!("a voice of {:?} instead of {:?}", self.voice.dims(), [1, config.width]);
        }
        Ok(())
    }

    fn done(&mut self, end: End) -> Choice {
        self.end = end;
        // Whoever listens sees the end of the codes before the outcome.
        self.out = None;
        Choice::Done
    }

    fn say(&mut self, code: u32, latent: Tensor) -> Option<Choice> {
        let Some(out) = &self.out else { return Some(Choice::Done) };
        if out.try_send(Spoken { code, latent }).is_err() {
            return Some(self.done(End::Abandoned));
        }
        self.codes.push(code);
        None
    }
}

impl Sequence for Speaking {
    type Prediction = Prediction;

    fn tokens(&self) -> Vec<u32> {
        [self.prompt.as_slice(), &self.codes].concat()
    }

    fn choose(&mut self, prediction: &mut Prediction) -> Choice {
        let Some(drawn) = prediction.code else { return self.done(End::NotFinite) };
        self.stopped |= drawn == self.stop;
        if self.codes.len() >= self.most {
            let end = if self.stopped { End::Natural } else { End::Runaway };
            return self.done(end);
        }
        if self.stopped {
            if self.tail == 0 {
                return self.done(End::Natural);
            }
            self.tail -= 1;
        }
        let code = if self.stopped { self.calm } else { drawn };
        self.run = if code == self.calm { self.run + 1 } else { 0 };
        if self.run > CALM_RUN {
            let end = if self.stopped { End::Natural } else { End::Calm };
            return self.done(end);
        }
        match self.say(code, prediction.latent.clone()) {
            Some(done) => done,
            None => Choice::Read(vec![code]),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use crossbeam_channel::{Receiver, bounded};

    use super::*;

    fn speaking(most: usize) -> (Speaking, Receiver<Spoken>) {
        let config = AutoregressiveConfig::default();
        let voice = Tensor::zeros((1, 1024), DType::F32, &Device::Cpu).expect("a voice");
        let (out, spoken) = bounded(most);
        let how = (Sampling::default(), 1);
        (Speaking::new(&config, voice, &[42, 7], how, most, out), spoken)
    }

    fn predicted(code: Option<u32>) -> Prediction {
        let latent = Tensor::zeros((1, 4), DType::F32, &Device::Cpu).expect("a latent");
        Prediction { code, latent }
    }

    fn choose(speaking: &mut Speaking, code: u32) -> Choice {
        speaking.choose(&mut predicted(Some(code)))
    }

    #[test]
    fn codes_come_out_as_they_are_chosen_and_can_be_read_again() {
        let (mut speaking, spoken) = speaking(10);
        let prompt = speaking.tokens();
        assert_eq!(prompt.len(), 1 + 5 + 1);
        assert_eq!(prompt.iter().filter(|token| is_text(**token)).count(), 6);
        assert_eq!(choose(&mut speaking, 3), Choice::Read(vec![3]));
        assert_eq!(choose(&mut speaking, 4), Choice::Read(vec![4]));
        assert_eq!(speaking.tokens()[prompt.len()..], [3, 4]);
        assert_eq!(choose(&mut speaking, 8193), Choice::Done);
        assert_eq!(speaking.end(), End::Natural);
        assert_eq!(spoken.iter().map(|spoken| spoken.code).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn a_sentence_that_does_not_stop_is_ended() {
        let (mut speaking, _spoken) = speaking(2);
        choose(&mut speaking, 3);
        choose(&mut speaking, 4);
        assert_eq!(choose(&mut speaking, 5), Choice::Done);
        assert_eq!(speaking.end(), End::Runaway);
    }

    #[test]
    fn a_calm_that_is_longer_than_a_pause_ends_it() {
        let (mut speaking, _spoken) = speaking(100);
        for _ in 0..CALM_RUN {
            assert_eq!(choose(&mut speaking, 83), Choice::Read(vec![83]));
        }
        assert_eq!(choose(&mut speaking, 83), Choice::Done);
        assert_eq!((speaking.end(), speaking.codes().len()), (End::Calm, CALM_RUN));
    }

    #[test]
    fn fading_out_goes_on_calmly_after_the_stop() {
        let (speaking, _spoken) = speaking(100);
        let mut speaking = speaking.fading_out();
        choose(&mut speaking, 3);
        choose(&mut speaking, 83);
        // Whatever is drawn after the stop is not said, and the pause before it counts.
        for drawn in [8193, 5, 6, 7, 8, 9, 10] {
            assert_eq!(choose(&mut speaking, drawn), Choice::Read(vec![83]));
        }
        assert_eq!(choose(&mut speaking, 11), Choice::Done);
        assert_eq!((speaking.end(), speaking.codes().len()), (End::Natural, 1 + CALM_RUN));
    }

    #[test]
    fn it_ends_when_nobody_listens_or_nothing_is_a_number() {
        let (mut abandoned, spoken) = speaking(10);
        drop(spoken);
        assert_eq!(choose(&mut abandoned, 3), Choice::Done);
        assert_eq!(abandoned.end(), End::Abandoned);
        let (mut broken, _spoken) = speaking(10);
        assert_eq!(broken.choose(&mut predicted(None)), Choice::Done);
        assert_eq!(broken.end(), End::NotFinite);
    }
}
