//! Sizes of the autoregressive model.

use candle_core::{Result, bail};
use serde::{Deserialize, Serialize};

/// Sizes and special tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AutoregressiveConfig {
    /// Blocks of the decoder.
    pub layers: usize,
    /// Width of its states.
    pub width: usize,
    /// Attention heads, of the decoder and of the conditioning encoder.
    pub heads: usize,
    /// Blocks of the conditioning encoder.
    pub conditioning_blocks: usize,
    /// Bands of the mel spectrogram that the conditioning encoder reads.
    pub mel_bands: usize,
    /// Rows of the text's embedding, the start included.
    pub text_tokens: usize,
    /// Before a text.
    pub start_text: u32,
    /// After it, twice.
    pub stop_text: u32,
    /// Positions of the text, with start and stops.
    pub text_positions: usize,
    /// Codes, start and stop included.
    pub mel_codes: usize,
    /// Before the codes.
    pub start_mel: u32,
    /// After them.
    pub stop_mel: u32,
    /// Positions of the codes, with start and stop.
    pub mel_positions: usize,
    /// The code of silence.
    pub calm: u32,
}

impl Default for AutoregressiveConfig {
    /// The published sizes.
    fn default() -> Self {
        Self {
            layers: 30,
            width: 1024,
            heads: 16,
            conditioning_blocks: 6,
            mel_bands: 80,
            text_tokens: 256,
            start_text: 255,
            stop_text: 0,
            text_positions: 404,
            mel_codes: 8194,
            start_mel: 8192,
            stop_mel: 8193,
            mel_positions: 608,
            calm: 83,
        }
    }
}

impl AutoregressiveConfig {
    /// Ids of a text that fit beside its start and its two stops.
    pub fn longest_text(&self) -> usize {
        self.text_positions.saturating_sub(3)
    }

    /// Codes that fit after their start.
    pub fn longest_codes(&self) -> usize {
        self.mel_positions.saturating_sub(1)
    }

    /// Places of the whole stream.
    pub fn places(&self) -> usize {
        1 + self.text_positions + self.mel_positions
    }

    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.width / self.heads.max(1)
    }

    /// # Errors
    /// The numbers contradict each other.
    pub fn check(&self) -> Result<()> {
        if self.layers == 0 || self.heads == 0 || !self.width.is_multiple_of(self.heads.max(1)) {
            bail!(
                "an autoregressive model of {} layers cannot share {} channels among {} heads",
                self.layers,
                self.width,
                self.heads
            );
        }
        if self.text_positions < 4 || self.mel_positions < 2 {
            bail!("{} and {} positions hold nothing", self.text_positions, self.mel_positions);
        }
        let texts = [self.start_text, self.stop_text];
        let mels = [self.start_mel, self.stop_mel, self.calm];
        if texts.iter().any(|token| *token as usize >= self.text_tokens)
            || mels.iter().any(|code| *code as usize >= self.mel_codes)
        {
            bail!("a special token lies outside of its vocabulary");
        }
        Ok(())
    }
}
