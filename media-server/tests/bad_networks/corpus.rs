//! Recorded sentences with their printed texts: Debian's Asterisk core sounds in English.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

const SOUNDS: &str = "/usr/share/asterisk/sounds/en_US_f_Allison";
const TEXTS: &str = "/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz";
/// Sizes of recordings of 2 to 6 seconds: G.722 has 8000 bytes to the second.
const BYTES: std::ops::RangeInclusive<u64> = 16_000..=48_000;
const FEWEST_WORDS: usize = 5;
/// Marks of prompts that are not a whole sentence, or not speech alone.
const FRAGMENT_MARKS: [&str; 6] = ["...", "[", "(", "*", "#", ":"];

/// A sentence as it was recorded.
pub struct Prompt {
    pub name: String,
    pub text: String,
    /// 48 kHz mono, -1 to 1.
    pub samples_48k: Vec<f32>,
}

impl Prompt {
    pub fn words(&self) -> usize {
        self.text.split_whitespace().count()
    }
}

/// The folder of all models.
pub fn models() -> PathBuf {
    std::env::var_os("DRAGOMAN_MODELS").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
        cache.unwrap_or_else(home).join("dragoman/models")
    })
}

/// `count` different sentences, the same ones for the same seed.
pub fn draw(count: usize, seed: u64) -> Vec<Prompt> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for line in texts().lines().filter(|line| !line.starts_with(';')) {
        if let Some((name, text)) = line.split_once(':') {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let is_whole = !FRAGMENT_MARKS.iter().any(|mark| text.contains(mark));
            let recording = path(name.trim());
            let lasts = std::fs::metadata(recording).is_ok_and(|file| BYTES.contains(&file.len()));
            if is_whole && lasts && text.split(' ').count() >= FEWEST_WORDS {
                // Some sentences were recorded twice under two names.
                names.entry(text).or_insert_with(|| name.trim().to_owned());
            }
        }
    }
    let mut sentences: Vec<(String, String)> = names.into_iter().collect();
    sentences.shuffle(&mut StdRng::seed_from_u64(seed));
    assert!(
        sentences.len() >= count,
        "only {} sentences: install asterisk-core-sounds-en and -en-g722",
        sentences.len()
    );
    sentences.truncate(count);
    sentences
        .into_iter()
        .map(|(text, name)| Prompt { samples_48k: g722(&path(&name)), name, text })
        .collect()
}

fn path(name: &str) -> PathBuf {
    Path::new(SOUNDS).join(format!("{name}.g722"))
}

fn texts() -> String {
    let file = std::fs::File::open(TEXTS)
        .unwrap_or_else(|error| panic!("{TEXTS}: {error}: install asterisk-core-sounds-en"));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("a gzipped text");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn g722(path: &Path) -> Vec<f32> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "g722", "-i"])
        .arg(path)
        .args(["-f", "f32le", "-ar", "48000", "-"])
        .output()
        .expect("ffmpeg runs: install it");
    assert!(output.status.success(), "{}", path.display());
    output.stdout.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
