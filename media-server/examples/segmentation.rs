//! Segmentation of every recorded sentence in five languages, clean and in noise: a table, and each
//! fault by name. `make segmentation` runs it.

#![allow(clippy::print_stdout, reason = "a report is what it is for")]

#[path = "../tests/spoken/mod.rs"]
mod spoken;

use media_server::segmenter::SegmenterConfig;
use spoken::corpus::{LANGUAGES, draw};
use spoken::judge::{HEAD, Verdict, hear};
use spoken::noise::{Babble, Noise, Pink, Room};
use spoken::stream::Stream;

const TALKERS: usize = 8;

/// Noise and how far below the speech it lies, dB.
type Condition<'a> = (&'static str, Option<(&'a dyn Noise, f32)>);

fn main() {
    let seed = spoken::seed(1);
    let vad = spoken::vad();
    let config = std::env::args().nth(1).map_or_else(SegmenterConfig::default, |toml| {
        toml::from_str(&toml).expect("the argument is like the [segmenter] section, in TOML")
    });
    println!("seed {seed} (SEED=n draws other pauses and noise)\n{HEAD}");
    let mut faults = Vec::new();
    let mut totals: Vec<(&str, Verdict)> = Vec::new();
    for (language, _) in LANGUAGES {
        let sentences = draw(language, usize::MAX, seed);
        let stream = Stream::join(&sentences, seed);
        let (pink, room) = (Pink(seed), Room(seed));
        let babble = Babble { sentences, talkers: TALKERS };
        let conditions: [Condition<'_>; 7] = [
            ("clean", None),
            ("pink 30 dB", Some((&pink, 30.0))),
            ("pink 20 dB", Some((&pink, 20.0))),
            ("pink 10 dB", Some((&pink, 10.0))),
            ("room 20 dB", Some((&room, 20.0))),
            ("babble 30 dB", Some((&babble, 30.0))),
            ("babble 20 dB", Some((&babble, 20.0))),
        ];
        for (n, (condition, noise)) in conditions.into_iter().enumerate() {
            let noisy = noise.map(|(noise, snr_db)| stream.with(noise, snr_db));
            let heard = hear(&vad, &config, noisy.as_ref().unwrap_or(&stream.samples));
            let mut verdict = Verdict::default();
            verdict.add(&stream, &heard, &config);
            println!("{language} {condition:16} {verdict}");
            for (kind, name) in verdict.faults() {
                faults.push(format!("{condition}: {kind}: {name}"));
            }
            if totals.len() == n {
                totals.push((condition, Verdict::default()));
            }
            totals[n].1.add(&stream, &heard, &config);
        }
    }
    for (condition, verdict) in &totals {
        println!("all {condition:15} {verdict}");
    }
    println!("\n{}", faults.join("\n"));
}
