//! Transcripts as JSON, WebVTT, SubRip and text, made page by page: however long a meeting was, no
//! more than one page of it is in memory.

mod json;
mod srt;
mod text;
mod txt;
mod vtt;

use std::fmt::{self, Display};
use std::str::FromStr;

pub use self::text::date;
use super::reader::{Cursor, Line, Reader};
use crate::wire::Meeting;

/// Utterances in one page.
const PAGE: u32 = 256;

/// What a transcript can be given out as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, a [`crate::wire::Transcript`].
    Json,
    /// WebVTT (<https://www.w3.org/TR/webvtt1/>).
    Vtt,
    /// SubRip.
    Srt,
    /// Plain text.
    Txt,
}

impl Format {
    /// All of them, the one that is preferred first.
    pub const ALL: [Self; 4] = [Self::Json, Self::Vtt, Self::Srt, Self::Txt];

    /// Name in a query, and suffix of a file.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Vtt => "vtt",
            Self::Srt => "srt",
            Self::Txt => "txt",
        }
    }

    /// Media type, without parameters.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Vtt => "text/vtt",
            // Registered by nobody, and what players and servers agreed on.
            Self::Srt => "application/x-subrip",
            Self::Txt => "text/plain",
        }
    }
}

impl Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.suffix())
    }
}

/// A format that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of json, vtt, srt and txt")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.into_iter().find(|format| format.suffix() == name);
        found.ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

/// One transcript on its way out.
#[derive(Debug)]
pub struct Export {
    meeting: Meeting,
    format: Format,
    language: Option<String>,
    cursor: Cursor,
    given: usize,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    Pages,
    Over,
}

impl Export {
    /// `language` is one of [`Reader::languages`]: where an utterance was spoken in it, what was
    /// said; else its translation; else what was said, marked with its language. Without one, what
    /// was said.
    #[must_use]
    pub fn new(meeting: Meeting, format: Format, language: Option<String>) -> Self {
        Self { meeting, format, language, cursor: Cursor::START, given: 0, part: Part::Head }
    }

    /// What a file of it is called, of characters that any file system takes.
    #[must_use]
    pub fn file_name(&self) -> String {
        let Meeting { room, id, .. } = &self.meeting;
        let language = self.language.as_ref().map(|language| format!(".{language}"));
        format!("{room}-{id}{}.{}", language.unwrap_or_default(), self.format)
    }

    /// The next piece of text; `None` when it is over.
    ///
    /// # Errors
    /// What SQLite says; what was given out so far is not the whole transcript.
    pub fn next(&mut self, reader: &Reader) -> rusqlite::Result<Option<String>> {
        match self.part {
            Part::Over => Ok(None),
            Part::Head => {
                self.part = Part::Pages;
                Ok(Some(self.head()))
            }
            Part::Pages => {
                let language = self.language.as_deref();
                let (lines, last) = reader.page(&self.meeting, language, self.cursor, PAGE)?;
                self.cursor = last;
                let mut text = String::new();
                for line in &lines {
                    // A segment that was taken for speech may have no words.
                    if !line.text.trim().is_empty() {
                        self.given += 1;
                        self.line(&mut text, line);
                    }
                }
                if lines.len() < PAGE as usize {
                    self.part = Part::Over;
                    text.push_str(self.tail());
                }
                Ok(Some(text))
            }
        }
    }

    fn head(&self) -> String {
        match self.format {
            Format::Json => json::head(&self.meeting, self.language.as_deref()),
            Format::Vtt => vtt::head(&self.meeting),
            Format::Srt => String::new(),
            Format::Txt => txt::head(&self.meeting),
        }
    }

    fn line(&self, text: &mut String, line: &Line) {
        let number = self.given;
        // Without a language asked for, every text is in its own.
        let asked = self.language.as_deref();
        let mark = asked.is_some_and(|asked| asked != line.language).then_some(&*line.language);
        match self.format {
            Format::Json => json::line(text, line, number),
            Format::Vtt => vtt::line(text, line, mark),
            Format::Srt => srt::line(text, line, number, mark),
            Format::Txt => txt::line(text, line, mark),
        }
    }

    fn tail(&self) -> &'static str {
        match self.format {
            Format::Json => json::TAIL,
            Format::Vtt | Format::Srt | Format::Txt => "",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
