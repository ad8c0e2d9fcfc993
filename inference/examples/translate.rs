//! Translates lines of standard input: `translate GGUF FROM TO < lines`. Prints each translation
//! with the time to its first clause and to its end.
#![allow(clippy::print_stdout)]

use std::io::BufRead;
use std::time::Instant;

use inference::translate::language_model::{LanguageModel, LanguageModelConfig};
use inference::translate::{TranslateRequest, Translator};
use inference::{CancelToken, Language};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, from, to] = arguments.as_slice() else {
        anyhow::bail!("usage: translate GGUF FROM TO < lines")
    };
    let (from, to): (Language, Language) = (from.parse()?, to.parse()?);
    let began = Instant::now();
    let translator = LanguageModel::load(&LanguageModelConfig::new(path))?;
    println!("loaded in {:.2?}", began.elapsed());
    let began = Instant::now();
    translator.warm_up(from, to)?;
    println!("warmed up in {:.2?}", began.elapsed());
    for line in std::io::stdin().lock().lines() {
        let request = TranslateRequest { text: line?, from, to, cancel: CancelToken::new() };
        let began = Instant::now();
        let mut first = None;
        let outcome = translator.translate(&request, &mut |_| {
            first.get_or_insert_with(|| began.elapsed());
        });
        let total = began.elapsed();
        match outcome {
            Ok(translation) => println!(
                "{:.2?} {total:.2?} {}: {}",
                first.unwrap_or(total),
                translation.translator,
                translation.text
            ),
            Err(error) => println!("{total:.2?} {error:#}"),
        }
    }
    Ok(())
}
