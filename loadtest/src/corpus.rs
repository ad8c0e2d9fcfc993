//! The recordings that a run speaks: a folder with a list, `corpus.json`.
//!
//! ```json
//! {"sentences": [
//!   {"path": "en/welcome.wav", "language": "en", "transcript": "Welcome.",
//!    "translations": {"es": "Bienvenido."}, "last_voiced_ms": 812.5}
//! ]}
//! ```
//!
//! `translations` and `last_voiced_ms` may be missing: what has no reference is not scored, and
//! where the voice ends is then estimated by energy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::clip::Clip;
use crate::level::{begin_of_sound, duration_of, end_of_sound};
use crate::wav::{self, WavError};

/// Name of the list in a corpus' folder.
pub const LIST: &str = "corpus.json";

/// Why a corpus cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// There is no list in the folder.
    #[error(
        "cannot read {}: a corpus is a folder with recordings and their list, {LIST}",
        path.display()
    )]
    Read {
        /// The list.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The list is not of the expected form.
    #[error("{} is no list of recordings", path.display())]
    Form {
        /// The list.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A recording is missing or no WAV file.
    #[error("the corpus lists a recording that cannot be used")]
    Recording(#[from] WavError),
    /// A recording has no sound in it.
    #[error("{} is silent: there is nothing to interpret in it", .0.display())]
    Silent(PathBuf),
    /// A recording cannot be encoded.
    #[error("{} cannot be encoded as Opus", path.display())]
    Encode {
        /// The recording.
        path: PathBuf,
        /// Why.
        #[source]
        source: opus::Error,
    },
    /// There is no recording in a language that somebody is to speak.
    #[error("the corpus has no recording in {language:?}; it has {has}")]
    NoSuchLanguage {
        /// The language.
        language: String,
        /// The languages that it has.
        has: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    sentences: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: PathBuf,
    language: String,
    transcript: String,
    #[serde(default)]
    translations: BTreeMap<String, String>,
    last_voiced_ms: Option<f64>,
}

/// One recording.
#[derive(Clone, Debug)]
pub struct Sentence {
    /// Its path in the corpus.
    pub name: String,
    /// Language spoken (BCP 47).
    pub language: String,
    /// What is said.
    pub transcript: String,
    /// What it is in other languages, by language.
    pub translations: BTreeMap<String, String>,
    /// The speech, ready to be sent.
    pub clip: Clip,
    /// Where in it the voice begins.
    pub first_voiced: Duration,
    /// Where in it the voice ends.
    pub last_voiced: Duration,
}

/// Recordings by language.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    by_language: BTreeMap<String, Vec<Arc<Sentence>>>,
}

impl Corpus {
    /// Reads the recordings in `languages` of the corpus in a folder. At most `most` of each
    /// language, the first ones of the list.
    ///
    /// # Errors
    /// [`CorpusError`] names the file, and a language without a recording.
    pub fn load(folder: &Path, languages: &[String], most: usize) -> Result<Self, CorpusError> {
        let path = folder.join(LIST);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| CorpusError::Read { path: path.clone(), source })?;
        let list: List =
            serde_json::from_str(&text).map_err(|source| CorpusError::Form { path, source })?;
        let mut corpus = Self::default();
        for language in languages {
            if corpus.by_language.contains_key(language) {
                continue;
            }
            let entries = list.sentences.iter().filter(|entry| entry.language == *language);
            let sentences = entries.take(most).map(|entry| read(folder, entry).map(Arc::new));
            let sentences: Vec<_> = sentences.collect::<Result<_, _>>()?;
            if sentences.is_empty() {
                let mut has: Vec<&str> =
                    list.sentences.iter().map(|entry| entry.language.as_str()).collect();
                has.sort_unstable();
                has.dedup();
                let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
                return Err(CorpusError::NoSuchLanguage { language: language.clone(), has });
            }
            corpus.by_language.insert(language.clone(), sentences);
        }
        Ok(corpus)
    }

    /// A corpus of sentences at hand.
    #[must_use]
    pub fn of(sentences: impl IntoIterator<Item = Sentence>) -> Self {
        let mut corpus = Self::default();
        for sentence in sentences {
            let of_language = corpus.by_language.entry(sentence.language.clone()).or_default();
            of_language.push(Arc::new(sentence));
        }
        corpus
    }

    /// The recordings in a language.
    #[must_use]
    pub fn in_language(&self, language: &str) -> &[Arc<Sentence>] {
        self.by_language.get(language).map_or(&[], Vec::as_slice)
    }
}

impl Sentence {
    /// A sentence of 48 kHz mono samples; where the voice ends is estimated when it is not given.
    ///
    /// # Errors
    /// [`CorpusError::Silent`] and [`CorpusError::Encode`] name `path`.
    pub fn new(
        path: &Path,
        language: &str,
        transcript: &str,
        samples_48k: &[f32],
        last_voiced: Option<Duration>,
    ) -> Result<Self, CorpusError> {
        let silent = || CorpusError::Silent(path.to_owned());
        let first_voiced = begin_of_sound(samples_48k).ok_or_else(silent)?;
        let estimated = end_of_sound(samples_48k).ok_or_else(silent)?;
        let clip = Clip::encode(samples_48k)
            .map_err(|source| CorpusError::Encode { path: path.to_owned(), source })?;
        Ok(Self {
            name: path.display().to_string(),
            language: language.to_owned(),
            transcript: transcript.to_owned(),
            translations: BTreeMap::new(),
            clip,
            first_voiced,
            last_voiced: last_voiced.unwrap_or(estimated).min(duration_of(samples_48k.len())),
        })
    }

    /// How long it takes to say, with the quiet at its ends.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.clip.duration()
    }
}

fn read(folder: &Path, entry: &Entry) -> Result<Sentence, CorpusError> {
    let samples = wav::read_48k(&folder.join(&entry.path))?;
    let last_voiced =
        entry.last_voiced_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok());
    let sentence =
        Sentence::new(&entry.path, &entry.language, &entry.transcript, &samples, last_voiced)?;
    Ok(Sentence { translations: entry.translations.clone(), ..sentence })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Half a second of quiet, a second of tone, half a second of quiet.
    fn samples() -> Vec<f32> {
        let mut samples = vec![0.0; 24_000];
        samples.extend((0..48_000).map(|n| 0.3 * (n as f32 * 0.04).sin()));
        samples.resize(96_000, 0.0);
        samples
    }

    fn corpus(list: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        wav::write_48k(&folder.path().join("a.wav"), &samples()).unwrap();
        wav::write_48k(&folder.path().join("quiet.wav"), &[0.0; 4800]).unwrap();
        std::fs::write(folder.path().join(LIST), list).unwrap();
        let path = folder.path().to_owned();
        (folder, path)
    }

    fn load(folder: &Path, language: &str) -> Result<Corpus, CorpusError> {
        Corpus::load(folder, &[language.to_owned()], 10)
    }

    #[test]
    fn a_voice_is_found_in_its_recording_unless_the_list_says_where_it_ends() {
        let (_folder, path) = corpus(
            r#"{"sentences": [
                {"path": "a.wav", "language": "en", "transcript": "Beep."},
                {"path": "a.wav", "language": "en", "transcript": "Beep.",
                 "translations": {"es": "Pip."}, "last_voiced_ms": 1234.5}]}"#,
        );
        let corpus = load(&path, "en").unwrap();
        let [estimated, given] = corpus.in_language("en") else { panic!("two were listed") };
        assert_eq!(estimated.first_voiced.as_millis(), 500);
        assert_eq!(estimated.last_voiced.as_millis(), 1500);
        assert_eq!(estimated.duration(), Duration::from_secs(2));
        assert_eq!(given.last_voiced, Duration::from_micros(1_234_500));
        assert_eq!(given.translations["es"], "Pip.");
        assert!(corpus.in_language("es").is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_corpus_is_named() {
        let (_folder, path) = corpus(
            r#"{"sentences": [
                {"path": "missing.wav", "language": "en", "transcript": "One."},
                {"path": "quiet.wav", "language": "fr", "transcript": "Deux."}]}"#,
        );
        let message =
            |language| format!("{:#}", anyhow::Error::new(load(&path, language).unwrap_err()));
        assert!(message("en").contains("missing.wav"), "{}", message("en"));
        assert!(message("fr").contains("quiet.wav is silent"), "{}", message("fr"));
        assert_eq!(message("de"), "the corpus has no recording in \"de\"; it has en, fr");
        std::fs::write(path.join(LIST), r#"{"sentences": [{"path": 7}]}"#).unwrap();
        assert!(message("en").contains("corpus.json is no list"), "{}", message("en"));
        let nowhere = load(&path.join("nowhere"), "en").unwrap_err();
        assert!(nowhere.to_string().contains("a corpus is a folder"), "{nowhere}");
    }
}
