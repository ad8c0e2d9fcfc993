//! Typed reading of a GGUF file's metadata, with errors that name the key.

use candle_core::Result;
use candle_core::quantized::gguf_file::{Content, Value};

/// The key-value part of a GGUF file.
pub(super) struct Metadata<'a>(pub(super) &'a Content);

impl Metadata<'_> {
    fn value(&self, key: &str) -> Result<&Value> {
        match self.0.metadata.get(key) {
            Some(value) => Ok(value),
            None => candle_core::bail!("metadata key {key} is missing"),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<&str> {
        Ok(self.value(key)?.to_string().map_err(|error| error.context(key.to_owned()))?.as_str())
    }

    pub(super) fn float(&self, key: &str) -> Result<f32> {
        self.value(key)?.to_f32().map_err(|error| error.context(key.to_owned()))
    }

    /// A count below 2²⁰: anything larger in a header is damage, not a model.
    pub(super) fn count(&self, key: &str) -> Result<usize> {
        const LARGEST: u32 = 1 << 20;
        let count = self.value(key)?.to_u32().map_err(|error| error.context(key.to_owned()))?;
        if count > LARGEST {
            candle_core::bail!("metadata key {key} holds {count}, more than any model has");
        }
        Ok(count as usize)
    }
}
