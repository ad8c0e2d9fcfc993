//! The whole record of each utterance, as a [`Transcript`] that is written in pieces.

use super::Line;
use crate::wire::{Meeting, Transcript};

/// What closes the document.
pub(super) const TAIL: &str = "\n]}\n";

/// Everything up to the first utterance.
pub(super) fn head(meeting: &Meeting, language: Option<&str>) -> String {
    let empty = Transcript {
        meeting: meeting.clone(),
        language: language.map(str::to_owned),
        lines: Vec::new(),
    };
    let mut text = to_json(&empty);
    // `lines` is the last field, so an empty transcript ends with its brackets.
    text.truncate(text.len() - "]}".len());
    text
}

/// One utterance on a line of its own.
pub(super) fn line(text: &mut String, line: &Line, number: usize) {
    text.push_str(if number == 1 { "\n" } else { ",\n" });
    text.push_str(&to_json(line));
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("transcripts hold only strings and whole numbers")
}
