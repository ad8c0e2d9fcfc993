//! Text as ids of Tortoise's text vocabulary.
//!
//! Text is [cleaned](Cleaning), spaces become a token of their own, and the rest is put together
//! of letters by byte-pair encoding (Sennrich et al., "Neural Machine Translation of Rare Words with
//! Subword Units", 2016). `english.json`, in the format of the crate `tokenizers`, is the vocabulary
//! of the published model: 255 tokens and 215 merges, from the package tortoise-tts 3.0.0 (James
//! Betker, licensed under Apache-2.0), unchanged. Models trained further bring their own.

mod clean;
mod latin;
mod numbers;
mod pieces;

use std::path::{Path, PathBuf};

pub use clean::Cleaning;
pub use pieces::{LEAST_IDS, Piece};

const ENGLISH: &[u8] = include_bytes!("english.json");
/// What stands for a space: white space separates words before they are looked up.
const SPACE: &str = "[SPACE]";
/// Largest vocabulary that is read; that of the published model has 4 KiB.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Why a vocabulary cannot be used, or a text not be turned into ids.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The file is missing or unreadable: give another path.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is no vocabulary of a Tortoise model: give the one that the model was trained with.
    #[error("{path} is no vocabulary of a Tortoise model: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No piece may be so short: allow more ids.
    #[error("pieces of {limit} ids are too short: allow at least {LEAST_IDS}")]
    LimitTooSmall {
        /// Ids allowed.
        limit: usize,
    },
    /// The vocabulary cannot spell the text and has no token for what it does not know.
    #[error("the vocabulary failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A text vocabulary with the cleaning that belongs to it.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: tokenizers::Tokenizer,
    cleaning: Cleaning,
}

impl Tokenizer {
    /// That of the published model.
    pub fn english() -> Self {
        let vocabulary =
            tokenizers::Tokenizer::from_bytes(ENGLISH).expect("the file is part of the program");
        Self { vocabulary, cleaning: Cleaning::English }
    }

    /// The `tokenizer.json` of another model, which was trained on text with that cleaning.
    ///
    /// # Errors
    /// [`TextError::Io`], or [`TextError::Malformed`] when the file is no vocabulary or has no token
    /// for a space.
    pub fn read(path: &Path, cleaning: Cleaning) -> Result<Self, TextError> {
        let io = |source| TextError::Io { path: path.to_owned(), source };
        let malformed = |reason: String| TextError::Malformed { path: path.to_owned(), reason };
        if std::fs::metadata(path).map_err(io)?.len() > MAX_FILE_BYTES {
            return Err(malformed("it is larger than any".to_owned()));
        }
        let bytes = std::fs::read(path).map_err(io)?;
        let vocabulary = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| malformed(error.to_string()))?;
        if vocabulary.token_to_id(SPACE).is_none() {
            return Err(malformed(format!("it has no {SPACE}")));
        }
        Ok(Self { vocabulary, cleaning })
    }

    /// Number of ids: all ids are lower.
    pub fn vocabulary_size(&self) -> usize {
        let highest = self.vocabulary.get_vocab(true).into_values().max();
        highest.map_or(0, |highest| highest as usize + 1)
    }

    /// `text` as the vocabulary spells it.
    pub fn clean(&self, text: &str) -> String {
        self.cleaning.apply(text)
    }

    /// The ids of `text`, none if nothing of it has a sound. What the vocabulary does not know becomes
    /// its token for that.
    ///
    /// # Errors
    /// [`TextError::Failed`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let spelled = self.clean(text).replace(' ', SPACE);
        let encoding = self.vocabulary.encode_fast(spelled, true).map_err(TextError::Failed)?;
        Ok(encoding.get_ids().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use tempfile::NamedTempFile;

    use super::*;

    fn file(bytes: &[u8]) -> NamedTempFile {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("room");
        file
    }

    #[test]
    fn the_published_vocabulary_has_255_ids() {
        let tokenizer = Tokenizer::english();
        assert_eq!(tokenizer.vocabulary_size(), 255);
        assert_eq!(tokenizer.encode("Hello, world!").expect("ids"), [62, 84, 28, 7, 2, 179, 79, 3]);
        assert!(tokenizer.encode("").expect("ids").is_empty());
        assert!(tokenizer.encode("😀").expect("ids").is_empty());
    }

    #[test]
    fn a_text_cannot_name_a_token() {
        let ids = Tokenizer::english().encode("[STOP][SPACE]").expect("ids");
        assert!(!ids.contains(&0) && !ids.contains(&2), "{ids:?}");
    }

    #[test]
    fn a_vocabulary_is_read_with_its_cleaning() {
        let own = file(ENGLISH);
        let tokenizer = Tokenizer::read(own.path(), Cleaning::Basic).expect("a vocabulary");
        assert_eq!(tokenizer.clean("Dr. 5"), "dr. 5");
        let read = Tokenizer::read(own.path(), Cleaning::English).expect("a vocabulary");
        let text = "Dr. 5 and more";
        let ids = |tokenizer: &Tokenizer| tokenizer.encode(text).expect("ids");
        assert_eq!(ids(&read), ids(&Tokenizer::english()));
        assert_ne!(ids(&read), ids(&tokenizer));
    }

    #[test]
    fn what_is_no_vocabulary_is_refused() {
        let read = |path: &Path| Tokenizer::read(path, Cleaning::English);
        assert!(matches!(read(Path::new("/nowhere")), Err(TextError::Io { .. })));
        let without_space = String::from_utf8_lossy(ENGLISH).replace("[SPACE]", "[GAP]");
        for bytes in [&b""[..], b"{}", &ENGLISH[..ENGLISH.len() / 2], without_space.as_bytes()] {
            let refused = read(file(bytes).path());
            assert!(matches!(refused, Err(TextError::Malformed { .. })), "{refused:?}");
        }
        let huge = file(b"");
        huge.as_file().set_len(MAX_FILE_BYTES + 1).expect("room");
        assert!(matches!(read(huge.path()), Err(TextError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn any_text_has_ids_of_the_vocabulary(text in any::<String>()) {
            let tokenizer = Tokenizer::english();
            let ids = tokenizer.encode(&text).expect("ids");
            // Only spaces are the token of the space, and nothing is that of the end.
            prop_assert!(ids.iter().all(|&id| id != 0 && id < 255));
            let spaces = tokenizer.clean(&text).matches(' ').count();
            prop_assert_eq!(ids.iter().filter(|&&id| id == 2).count(), spaces);
        }
    }
}
