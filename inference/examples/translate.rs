//! Translates lines of standard input: `translate FROM TO [GGUF] < lines`. Prints each translation
//! with the time to its first clause and to its end. Without a GGUF, Apertium translates alone.
#![allow(clippy::print_stdout)]

use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use inference::Language;
use inference::translate::apertium::{Apertium, ApertiumConfig};
use inference::translate::language_model::{LanguageModel, LanguageModelConfig};
use inference::translate::{Ladder, LadderConfig, TranslateRequest, Translator};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, gguf @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: translate FROM TO [GGUF] < lines")
    };
    let (from, to): (Language, Language) = (from.parse()?, to.parse()?);
    let ladder = ladder(gguf.first().map(String::as_str), from, to)?;
    for line in std::io::stdin().lock().lines() {
        let request = TranslateRequest::new(line?, from, to);
        let began = Instant::now();
        let mut first = None;
        let outcome = ladder.translate(&request, &mut |_| {
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

/// Everything this machine has, ready to translate one direction.
fn ladder(gguf: Option<&str>, from: Language, to: Language) -> anyhow::Result<Ladder> {
    let apertium = Apertium::discover(&ApertiumConfig::default()).ok();
    let apertium = apertium.map(|apertium| Arc::new(apertium) as Arc<dyn Translator>);
    let mut available: Vec<Arc<dyn Translator>> = Vec::new();
    if let Some(path) = gguf {
        let began = Instant::now();
        let mut model = LanguageModel::load(&LanguageModelConfig::new(path))?;
        if let Some(apertium) = &apertium {
            model = model.drafting(Arc::clone(apertium));
        }
        model.warm_up(from, to)?;
        println!("language model ready in {:.2?}", began.elapsed());
        available.push(Arc::new(model));
    }
    available.extend(apertium);
    Ok(Ladder::new(&LadderConfig::default(), &available)?)
}
