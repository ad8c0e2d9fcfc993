//! Plain text to be read: a line for each utterance, with the time since the meeting's start.

use std::fmt::Write as _;

use super::Line;
use super::text::{clock, date, plain};
use crate::wire::Meeting;

/// Which meeting it was.
pub(super) fn head(meeting: &Meeting) -> String {
    format!("{}, {}\n\n", meeting.room, date(meeting.started_at_ms))
}

/// One line. It is not wrapped: whoever shows it knows the width.
pub(super) fn line(text: &mut String, line: &Line, mark: Option<&str>) {
    // Writing into a string does not fail.
    let _ = writeln!(text, "[{}] {}", clock(line.start_ms), plain(line, mark));
}
