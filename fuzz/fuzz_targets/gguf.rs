//! The language model's GGUF file: metadata, vocabulary, tensors.

#![no_main]

use dragoman_fuzz::bounded;
use inference::translate::language_model::{LanguageModel, LanguageModelConfig};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let config = LanguageModelConfig { threads: 1, ..LanguageModelConfig::new("model.gguf") };
    // A bool of one byte becomes a value of thirty-two; the rotary tables come on top.
    let limit = (32 << 20) + 256 * data.len();
    if let Ok(model) = bounded(limit, || LanguageModel::read(data, &config)) {
        assert!(model.decoder().config().width > 0);
    }
});
