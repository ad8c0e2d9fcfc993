//! Decoding while codes still come. Each window holds the codes that are decoded, some before them
//! and some after them: as soon as those reach as far as the network hears, the sound is that of
//! the whole utterance. Nothing is decoded twice but the margins.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use super::{Grid, Hifigan, HifiganConfig};

/// Codes around those that a window is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Margins {
    /// Codes of the past.
    pub context: usize,
    /// Codes that have to be there before a code is decoded: with fewer than the network hears,
    /// sound comes earlier and is not that of the whole utterance. It is 16 to 25 dB from it with
    /// none, 35 to 48 dB with one, 70 to 100 dB with two and more than 135 dB with three, for the
    /// published sizes and random weights of several strengths.
    pub lookahead: usize,
}

impl Margins {
    /// The smallest ones that lose nothing.
    pub fn exact(config: &HifiganConfig) -> Self {
        let (reach, codes) = (config.reach() as f64, Grid::new(config).codes_per_frame());
        // A window begins with a whole frame; the last frame that is heard lies within a code, and
        // is made of two frames that are made of two codes each.
        let lookahead = reach * codes + 1.5 + 1.0 / config.frames_per_code as f64;
        Self {
            context: ((reach + 1.0) * codes).ceil() as usize,
            lookahead: lookahead.ceil() as usize,
        }
    }
}

/// An utterance that is being decoded.
#[derive(Debug)]
pub struct HifiganStream {
    grid: Grid,
    margins: Margins,
    width: usize,
    condition: Tensor,
    /// Latents from `from` on, `[1, some, width]`.
    latents: Option<Tensor>,
    from: usize,
    /// Codes that came.
    codes: usize,
    /// Codes whose sound was asked for.
    decoded: usize,
}

/// Some frames of an utterance, and which of them become sound.
#[derive(Clone, Debug)]
pub struct Window {
    pub(super) frames: Tensor,
    pub(super) condition: Tensor,
    /// Of `frames`.
    pub(super) kept: Range<usize>,
}

impl Window {
    /// Frames that are decoded for it: windows of as many are decoded together.
    pub fn frames(&self) -> usize {
        self.frames.dims()[1]
    }
}

impl HifiganStream {
    /// For an utterance in a voice, `[1, width]`.
    ///
    /// # Errors
    /// The voice has another shape.
    pub fn new(hifigan: &Hifigan, voice: &Tensor, margins: Margins) -> Result<Self> {
        if voice.dim(0)? != 1 {
            bail!("{:?} is not one voice", voice.dims())
        }
        Ok(Self {
            grid: hifigan.grid,
            margins,
            width: hifigan.latent,
            condition: hifigan.condition(voice)?,
            latents: None,
            from: 0,
            codes: 0,
            decoded: 0,
        })
    }

    /// The latents of the next codes came, `[codes, width]`.
    ///
    /// # Errors
    /// The shape does not fit, or the device is out of memory.
    pub fn push(&mut self, latents: &Tensor) -> Result<()> {
        let (codes, width) = latents.dims2()?;
        if width != self.width {
            bail!("{:?} are no latents of width {}", latents.dims(), self.width)
        }
        if codes == 0 {
            return Ok(());
        }
        let latents = latents.unsqueeze(0)?;
        self.latents = Some(match &self.latents {
            None => latents,
            Some(before) => Tensor::cat(&[before, &latents], 1)?,
        });
        self.codes += codes;
        Ok(())
    }

    /// Codes that can be decoded now.
    pub fn ready(&self) -> usize {
        self.codes.saturating_sub(self.margins.lookahead).saturating_sub(self.decoded)
    }

    /// What can be decoded now, if anything: a window of all codes that are [`ready`](Self::ready).
    /// The margins are decoded with each, so few large windows are cheaper than many small ones.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn window(&mut self) -> Result<Option<Window>> {
        self.up_to(self.decoded + self.ready())
    }

    /// The rest, if there is any: no more codes come.
    ///
    /// # Errors
    /// The device is out of memory.
    pub fn finish(mut self) -> Result<Option<Window>> {
        self.up_to(self.codes)
    }

    fn up_to(&mut self, codes: usize) -> Result<Option<Window>> {
        let (kept, end) =
            (self.grid.frames(self.decoded)..self.grid.frames(codes), self.grid.frames(self.codes));
        let Some(latents) = self.latents.as_ref().filter(|_| !kept.is_empty()) else {
            return Ok(None);
        };
        // As long for all utterances that are decoded alike, wherever their codes lie between the
        // frames.
        let start = if self.decoded > self.margins.context {
            let heard = self.codes - (self.decoded - self.margins.context);
            end.saturating_sub(self.grid.most_frames(heard))
        } else {
            0
        };
        let frames = self.grid.interpolate(latents, self.from, self.codes, start..end)?;
        self.decoded = codes;
        self.forget()?;
        let kept = kept.start - start..kept.end - start;
        Ok(Some(Window { frames, condition: self.condition.clone(), kept }))
    }

    /// Drops latents that no window will need.
    fn forget(&mut self) -> Result<()> {
        let first = self.grid.frames(self.decoded.saturating_sub(self.margins.context));
        let first = self.grid.first_code(first.saturating_sub(1)).min(self.codes);
        if let Some(latents) = &self.latents
            && first > self.from
        {
            let (drop, there) = (first - self.from, latents.dim(1)?);
            self.latents =
                (drop < there).then(|| latents.narrow(1, drop, there - drop)).transpose()?;
            self.from = first;
        }
        Ok(())
    }
}
