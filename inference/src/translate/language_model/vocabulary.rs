//! Text to tokens and back. Text is always plain text here: whatever looks like a chat marker in
//! somebody's speech is encoded letter by letter, so that no speaker can leave their turn.

use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use tokenizers::Tokenizer;

use crate::Language;

use super::examples;

/// The tokenizer of a chat model with ChatML turns.
pub(super) struct Vocabulary {
    tokenizer: Tokenizer,
    turn_start: u32,
    turn_end: u32,
    end_of_text: Option<u32>,
}

impl Vocabulary {
    /// Builds the tokenizer from a GGUF's metadata.
    pub(super) fn from_gguf(content: &Content) -> candle_core::Result<Self> {
        let mut tokenizer = Tokenizer::from_gguf(content)?;
        tokenizer.set_encode_special_tokens(true);
        let marker = |text: &str| tokenizer.token_to_id(text);
        let (Some(turn_start), Some(turn_end)) = (marker("<|im_start|>"), marker("<|im_end|>"))
        else {
            candle_core::bail!("the model's vocabulary has no chat markers: not a chat model");
        };
        let end_of_text = marker("<|endoftext|>");
        Ok(Self { tokenizer, turn_start, turn_end, end_of_text })
    }

    /// Tokens of plain text.
    pub(super) fn encode(&self, text: &str) -> candle_core::Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(candle_core::Error::wrap)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of tokens; an unfinished character at the end comes out as U+FFFD.
    pub(super) fn decode(&self, tokens: &[u32]) -> candle_core::Result<String> {
        self.tokenizer.decode(tokens, true).map_err(candle_core::Error::wrap)
    }

    /// Tokens of which any ends the model's turn.
    pub(super) fn turn_ends(&self) -> Vec<u32> {
        [Some(self.turn_end), Some(self.turn_start), self.end_of_text]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Everything before the sentence: instruction, examples, and the opening of the user's turn.
    pub(super) fn prefix(&self, from: Language, to: Language) -> candle_core::Result<Vec<u32>> {
        let mut tokens = Vec::new();
        self.open_turn("system", &mut tokens)?;
        self.close_turn(&examples::instruction(from, to), &mut tokens)?;
        for (source, translation) in examples::turns(from, to) {
            self.open_turn("user", &mut tokens)?;
            self.close_turn(source, &mut tokens)?;
            self.open_turn("assistant", &mut tokens)?;
            self.close_turn(translation, &mut tokens)?;
        }
        self.open_turn("user", &mut tokens)?;
        Ok(tokens)
    }

    /// The sentence after [`prefix`](Self::prefix), up to where the model's answer begins.
    pub(super) fn question(&self, text: &str) -> candle_core::Result<Vec<u32>> {
        let mut tokens = Vec::new();
        self.close_turn(text, &mut tokens)?;
        self.open_turn("assistant", &mut tokens)?;
        Ok(tokens)
    }

    fn open_turn(&self, role: &str, tokens: &mut Vec<u32>) -> candle_core::Result<()> {
        tokens.push(self.turn_start);
        tokens.extend(self.encode(&format!("{role}\n"))?);
        Ok(())
    }

    fn close_turn(&self, text: &str, tokens: &mut Vec<u32>) -> candle_core::Result<()> {
        tokens.extend(self.encode(text)?);
        tokens.push(self.turn_end);
        tokens.extend(self.encode("\n")?);
        Ok(())
    }
}
