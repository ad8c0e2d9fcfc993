//! WebVTT (<https://www.w3.org/TR/webvtt1/>): cues with the speaker in a voice tag. Cues of people who
//! speak at once overlap, which WebVTT allows.

use std::fmt::Write as _;

use super::Line;
use super::text::{Instant, collapse, date, wrap};
use crate::wire::Meeting;

/// The signature, with the room and the date as its comment.
pub(super) fn head(meeting: &Meeting) -> String {
    format!("WEBVTT - {}, {}\n", meeting.room, date(meeting.started_at_ms))
}

/// One cue.
pub(super) fn line(text: &mut String, line: &Line, mark: Option<&str>) {
    let (from, to) = (Instant(line.start_ms, '.'), Instant(line.end_ms, '.'));
    let words = match mark {
        Some(language) => format!("[{language}] {}", line.text),
        None => line.text.clone(),
    };
    // Wrapped before it is escaped: `&amp;` is one character to its reader.
    let words = escape(&wrap(&words));
    let name = escape(&collapse(&line.name));
    // Writing into a string does not fail.
    let _ = write!(text, "\n{}\n{from} --> {to}\n<v {name}>{words}\n", label(&line.utterance));
}

/// What starts a tag or a character reference (§4.2.2), and the `>` that an arrow would end with.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A cue's identifier holds no arrow and no line break (§4.1).
fn label(utterance: &str) -> String {
    collapse(utterance).replace("-->", "->")
}
