//! Prints prompts as lists of tokens, for `scripts/reference/translate_greedy.py`:
//! `translate_prompts GGUF > prompts.json`.
#![allow(clippy::print_stdout)]

use inference::Language;
use inference::translate::language_model::{LanguageModel, LanguageModelConfig};

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("which GGUF?"))?;
    let model = LanguageModel::load(&LanguageModelConfig::new(path))?;
    let prompts = [
        ("The bakery on the corner opens at 7 and closes at noon.", "en", "es"),
        ("I left my umbrella on the bus yesterday.", "en", "es"),
        ("¿Nos vemos delante del cine a las seis?", "es", "en"),
        ("Mi abuela aprendió a nadar a los setenta años.", "es", "en"),
        ("Could you hold the door for me, please?", "en", "fr"),
    ];
    let tokens = prompts
        .iter()
        .map(|(text, from, to)| {
            let (from, to): (Language, Language) = (from.parse()?, to.parse()?);
            Ok(model.prompt(text, from, to)?)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    println!("{}", serde_json::to_string(&tokens)?);
    Ok(())
}
