//! Debian's Asterisk core sounds as labelled sentences.
//!
//! A recording is taken for a sentence by rules that know nothing of the segmenter: its printed text
//! has two words or more and describes no sound (those stand in brackets); what is voiced in it
//! spans 0.4 s or more (no letters and digits), and less than the longest segment, which is cut by
//! design.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use media_server::segmenter::SegmenterConfig;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::PER_MS;

const SOUNDS: &str = "/usr/share/asterisk/sounds";
const TEXTS: &str = "/usr/share/doc";
/// Language and the folder of its recordings.
pub const LANGUAGES: [(&str, &str); 5] = [
    ("en", "en_US_f_Allison"),
    ("es", "es_MX_f_Allison"),
    ("fr", "fr_CA_f_June"),
    ("it", "it_IT_m_Carlo"),
    ("ru", "ru_RU_f_IvrvoiceRU"),
];
const FEWEST_WORDS: usize = 2;
const SHORTEST: u64 = 400 * PER_MS;
/// Step in which energy is measured: 10 ms.
const STEP: usize = 160;
/// What is this far below the loudness of the speech counts as silence. At 20 dB of signal to noise
/// it is 10 dB below the noise, so nobody can hear it.
const FLOOR_DB: f32 = 30.0;
/// Louder sound that lasts less than this is a click.
const SHORTEST_SOUND_STEPS: usize = 2;

/// One recorded sentence.
#[derive(Clone, Debug)]
pub struct Sentence {
    /// Language and file, as `en/vm-intro`.
    pub name: String,
    pub samples: Vec<f32>,
    /// Where it is loud: in order, apart, not empty.
    pub voiced: Vec<Range<u64>>,
}

impl Sentence {
    /// From the first to the last voiced sample.
    pub fn span(&self) -> Range<u64> {
        self.voiced[0].start..self.voiced[self.voiced.len() - 1].end
    }
}

/// `count` sentences of a language in the order in which the seed shuffles them; all if there are
/// fewer.
pub fn draw(language: &str, count: usize, seed: u64) -> Vec<Sentence> {
    let mut recordings = recordings(language);
    recordings.shuffle(&mut StdRng::seed_from_u64(seed));
    // Some fall out by their length.
    recordings.truncate(count.saturating_add(count / 4));
    let decoded = decode(&recordings);
    let mut sentences = Vec::new();
    for ((name, _), samples) in recordings.into_iter().zip(decoded) {
        let voiced = voiced(&samples);
        let (Some(first), Some(last)) = (voiced.first(), voiced.last()) else { continue };
        let longest = SegmenterConfig::default();
        let longest = u64::from(longest.max_segment_ms - longest.pre_roll_ms) * PER_MS;
        if (SHORTEST..longest).contains(&(last.end - first.start)) {
            sentences.push(Sentence { name: format!("{language}/{name}"), samples, voiced });
        }
    }
    sentences.truncate(count);
    sentences
}

/// Name and file of the recordings whose text is a sentence, sorted.
fn recordings(language: &str) -> Vec<(String, PathBuf)> {
    let (_, folder) = LANGUAGES.iter().find(|(code, _)| *code == language).expect("a language");
    let describes_sound = |text: &str| text.contains(['[', '(', '<']);
    // Only the English texts put every sound in brackets.
    let english = texts("en");
    let is_sound = |name: &str| english.get(name).is_some_and(|text| describes_sound(text));
    let mut recordings = Vec::new();
    for (name, text) in texts(language) {
        let path = Path::new(SOUNDS).join(folder).join(format!("{name}.g722"));
        let has_words = text.split_whitespace().count() >= FEWEST_WORDS;
        if has_words && !describes_sound(&text) && !is_sound(&name) && path.exists() {
            recordings.push((name, path));
        }
    }
    let package = format!("asterisk-core-sounds-{language}-g722");
    assert!(recordings.len() > 150, "{} prompts: install {package}", recordings.len());
    recordings
}

/// Name and printed text of the recordings of a language.
fn texts(language: &str) -> BTreeMap<String, String> {
    let package = format!("asterisk-core-sounds-{language}");
    let path = format!("{TEXTS}/{package}/core-sounds-{language}.txt.gz");
    let output = Command::new("gzip").args(["-dc", &path]).output().expect("gzip runs");
    assert!(output.status.success(), "{path} is missing: install {package}");
    let texts = String::from_utf8_lossy(&output.stdout);
    let entries = texts.lines().filter(|line| !line.starts_with(';'));
    let pairs = entries.filter_map(|line| line.split_once(':'));
    pairs.map(|(name, text)| (name.trim().to_owned(), text.trim().to_owned())).collect()
}

/// Decodes many recordings, each from the decoder's first state, with few processes.
fn decode(recordings: &[(String, PathBuf)]) -> Vec<Vec<f32>> {
    /// Files of one process: its arguments stay short.
    const BATCH: usize = 64;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut decoded = Vec::new();
    for batch in recordings.chunks(BATCH) {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-y"]);
        for (_, path) in batch {
            ffmpeg.args(["-f", "g722", "-i"]).arg(path);
        }
        let output = |n: usize| folder.path().join(n.to_string());
        for n in 0..batch.len() {
            ffmpeg.args(["-map", &n.to_string(), "-f", "s16le"]).arg(output(n));
        }
        let status = ffmpeg.status().expect("ffmpeg runs: install it");
        assert!(status.success(), "ffmpeg cannot decode {batch:?}");
        let read = |n| std::fs::read(output(n)).expect("ffmpeg wrote its output");
        decoded.extend((0..batch.len()).map(|n| samples_of(&read(n))));
    }
    decoded
}

/// A file of raw G.722 as 16 kHz mono, -1 to 1.
pub fn g722(path: &Path) -> Vec<f32> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "g722", "-i"])
        .arg(path)
        .args(["-f", "s16le", "-"])
        .output()
        .expect("ffmpeg runs: install it");
    assert!(output.status.success(), "{}", path.display());
    samples_of(&output.stdout)
}

fn samples_of(s16: &[u8]) -> Vec<f32> {
    let pairs = s16.as_chunks::<2>().0;
    pairs.iter().map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32_768.0).collect()
}

/// Where a clean recording is loud, by energy alone.
fn voiced(samples: &[f32]) -> Vec<Range<u64>> {
    let powers: Vec<f32> = samples.chunks_exact(STEP).map(power).collect();
    let threshold = active_power(&powers) * 10f32.powf(-FLOOR_DB / 10.0);
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (n, _) in powers.iter().enumerate().filter(|(_, power)| **power > threshold) {
        match runs.last_mut() {
            Some(run) if run.end == n => run.end = n + 1,
            _ => runs.push(n..n + 1),
        }
    }
    let position = |step: usize| (step * STEP) as u64;
    runs.iter()
        .filter(|run| run.len() >= SHORTEST_SOUND_STEPS)
        .map(|run| position(run.start)..position(run.end))
        .collect()
}

/// Loudness of the speech alone: the mean power of the steps within 25 dB of the loud ones.
fn active_power(powers: &[f32]) -> f32 {
    let mut sorted = powers.to_vec();
    sorted.sort_by(f32::total_cmp);
    let loud = sorted.get(sorted.len() * 9 / 10).copied().unwrap_or(0.0);
    let active: Vec<f32> = powers.iter().copied().filter(|p| *p > loud / 316.0).collect();
    active.iter().sum::<f32>() / active.len().max(1) as f32
}

pub fn power(samples: &[f32]) -> f32 {
    samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32
}
