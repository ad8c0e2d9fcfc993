//! Sentences that follow each other after natural pauses come out apart, each whole from its first
//! word to its last, in quiet and in noise. Real recordings, the real detector.

#![allow(clippy::print_stderr, reason = "the numbers are half of what this test is for")]

mod spoken;

use std::time::Duration;

use inference::whisper::Window;
use media_server::segmenter::SegmenterConfig;
use spoken::corpus::draw;
use spoken::judge::{HEAD, Heard, Verdict, hear};
use spoken::noise::{Noise, Pink, Room};
use spoken::stream::Stream;
use spoken::words::{Recogniser, ends_survive, segments_of};

const SEED: u64 = 1;
const SNR_DB: f32 = 20.0;
const LANGUAGES: [&str; 2] = ["en", "es"];
const SENTENCES_PER_LANGUAGE: usize = 120;
const FEWEST_SENTENCES: usize = 100;
/// Of these the words are recognised too.
const RECOGNISED_PER_LANGUAGE: usize = 15;
/// Around a sentence, in samples: 300 ms, less than half of the shortest pause.
const MARGIN: u64 = 300 * spoken::PER_MS;
const MOST_WRONG: f64 = 0.05;
/// In which a segment is heard until its first and last words were.
const WINDOWS: [Window; 3] = [Window::Short, Window::Padded(Duration::from_secs(5)), Window::Full];

#[test]
fn sentences_after_natural_pauses_come_out_apart_and_whole() {
    let seed = spoken::seed(SEED);
    let (vad, config) = (spoken::vad(), SegmenterConfig::default());
    let streams =
        LANGUAGES.map(|language| Stream::join(&draw(language, SENTENCES_PER_LANGUAGE, seed), seed));
    let conditions: [(&str, Option<&dyn Noise>); 3] =
        [("clean", None), ("pink 20 dB", Some(&Pink(seed))), ("room 20 dB", Some(&Room(seed)))];
    let (mut all, mut table) = (Verdict::default(), String::new());
    for (condition, noise) in conditions {
        let mut verdict = Verdict::default();
        for stream in &streams {
            let noisy = noise.map(|noise| stream.with(noise, SNR_DB));
            let samples = noisy.as_ref().unwrap_or(&stream.samples);
            let heard = hear(&vad, &config, samples);
            verdict.add(stream, &heard, &config);
            all.add(stream, &heard, &config);
        }
        table += &format!("{condition:19} {verdict}\n");
        for (kind, name) in verdict.faults() {
            table += &format!("    {kind}: {name}\n");
        }
    }
    eprintln!("seed {seed} (SEED=n draws others)\n{HEAD}\n{table}");
    eprintln!(
        "segmentation: {:.1} % of {} sentences split, merged or missed; {} lost a first or last word",
        100.0 * all.wrong(),
        all.sentences,
        all.first_lost.len() + all.last_lost.len(),
    );
    assert!(all.sentences >= conditions.len() * FEWEST_SENTENCES, "{}", all.sentences);
    assert!(all.wrong() <= MOST_WRONG);
    assert!(all.spurious.is_empty(), "nobody said {:?}", all.spurious);
    assert!(all.first_lost.is_empty(), "first words lost: {:?}", all.first_lost);
    assert!(all.last_lost.is_empty(), "last words lost: {:?}", all.last_lost);
    assert!(all.inner_lost.is_empty(), "words between segments lost: {:?}", all.inner_lost);
}

/// The segments found in noise, cut out of the clean stream, against the whole recordings. A word
/// that the segment's transcripts lack, in every window, is lost if a wider piece of the stream brings it
/// back; if not, the recogniser heard one of the two wrongly, which does not count.
#[test]
fn the_first_and_the_last_word_are_recognised_in_the_segments() {
    let seed = spoken::seed(SEED);
    let (vad, config) = (spoken::vad(), SegmenterConfig::default());
    let mut recogniser = Recogniser::load();
    let (mut compared, mut lost) = (0, Vec::new());
    for language in LANGUAGES {
        let sentences = draw(language, RECOGNISED_PER_LANGUAGE, seed);
        let stream = Stream::join(&sentences, seed);
        let heard: Vec<Heard> = hear(&vad, &config, &stream.with(&Pink(seed), SNR_DB));
        for (sentence, placed) in sentences.iter().zip(&stream.sentences) {
            let whole = recogniser.words(&sentence.samples, language);
            let mut cut = Vec::new();
            let (mut first, mut last) = (false, false);
            for window in WINDOWS {
                cut.clear();
                for place in segments_of(&placed.span(), &heard) {
                    let samples = &stream.samples[place.start as usize..place.end as usize];
                    cut.extend(recogniser.words_in(window, samples, language));
                }
                let (first_survives, last_survives) = ends_survive(&whole, &cut);
                (first, last) = (first || first_survives, last || last_survives);
                if first && last {
                    break;
                }
            }
            compared += 1;
            if first && last {
                continue;
            }
            let span = placed.span();
            let wider =
                &stream.samples[(span.start - MARGIN) as usize..(span.end + MARGIN) as usize];
            let (first_is_there, last_is_there) =
                ends_survive(&whole, &recogniser.words(wider, language));
            let told = format!("{}: {} -> {}", sentence.name, whole.join(" "), cut.join(" "));
            if (!first && first_is_there) || (!last && last_is_there) {
                lost.push(told);
            } else {
                eprintln!("heard differently: {told}");
            }
        }
    }
    eprintln!(
        "seed {seed}: {} of {compared} sentences lost their first or last word in a transcript",
        lost.len()
    );
    assert_eq!(compared, LANGUAGES.len() * RECOGNISED_PER_LANGUAGE);
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}
