//! SubRip: numbered cues, the speaker before the words. It has no escapes, so what would look like
//! the start of another cue is kept out.

use std::fmt::Write as _;

use super::Line;
use super::text::{Instant, plain, wrap};

/// One cue.
pub(super) fn line(text: &mut String, line: &Line, number: usize, mark: Option<&str>) {
    let (from, to) = (Instant(line.start_ms, ','), Instant(line.end_ms, ','));
    let gap = if number == 1 { "" } else { "\n" };
    let words = wrap(&plain(line, mark).replace("-->", "->"));
    // Writing into a string does not fail.
    let _ = write!(text, "{gap}{number}\n{from} --> {to}\n{words}\n");
}
