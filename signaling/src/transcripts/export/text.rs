//! What the formats share: times, dates, and lines of a width that can be read as a caption.

use std::fmt::{self, Display};

use super::Line;

/// Columns of a caption's line; a wide character takes two. What broadcasters use is 37 to 42.
const COLUMNS: usize = 42;

/// A time since the start, `01:02:03.004`, with the separator of the format. The hours may take more
/// than two digits.
pub(super) struct Instant(pub(super) u64, pub(super) char);

impl Display for Instant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ms, separator) = self;
        write!(formatter, "{}{separator}{:03}", clock(*ms), ms % 1000)
    }
}

/// Hours, minutes and seconds of a time in milliseconds.
pub(super) fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Day and minute in UTC of milliseconds since the Unix epoch: `2026-01-31 09:05 UTC`.
pub fn date(unix_ms: u64) -> String {
    let minutes = unix_ms / 60_000;
    let (mut day, minute) = (minutes / 1440, minutes % 1440);
    // A Gregorian cycle of 400 years has 146097 days; counted from March on, a leap day comes last.
    day += 719_468;
    let (cycle, day) = (day / 146_097, day % 146_097);
    let year_of_cycle = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day + 2) / 153;
    let day = day - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * cycle + year_of_cycle + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minute / 60, minute % 60)
}

/// `Name: words`, on one line.
pub(super) fn plain(line: &Line, mark: Option<&str>) -> String {
    let (name, words) = (collapse(&line.name), collapse(&line.text));
    match mark {
        Some(language) => format!("{name}: [{language}] {words}"),
        None => format!("{name}: {words}"),
    }
}

/// One line, words parted by one space, without control characters: a blank line would end a cue.
pub(super) fn collapse(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Collapses and breaks into lines of at most [`COLUMNS`], at spaces, and between wide characters,
/// whose scripts write no spaces. A word that is longer than a line stays whole.
pub(super) fn wrap(text: &str) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for (piece, after_space) in pieces(&collapse(text)) {
        let width: usize = piece.chars().map(columns).sum();
        let space = usize::from(after_space);
        if column > 0 && column + space + width > COLUMNS {
            lines.push('\n');
            column = 0;
        } else if after_space {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(piece);
        column += width;
    }
    lines
}

/// What may not be broken, and whether a space stands before it.
fn pieces(collapsed: &str) -> Vec<(&str, bool)> {
    let mut pieces = Vec::new();
    for (index, word) in collapsed.split(' ').enumerate() {
        let mut start = 0;
        let mut previous = None;
        for (at, c) in word.char_indices() {
            // Between two wide characters, unless the second is punctuation that belongs to the first.
            let breaks = previous.is_some_and(|before: char| columns(before) == 2)
                && columns(c) == 2
                && c.is_alphanumeric();
            if breaks {
                pieces.push((&word[start..at], index > 0 && start == 0));
                start = at;
            }
            previous = Some(c);
        }
        pieces.push((&word[start..], index > 0 && start == 0));
    }
    pieces
}

/// Two for the blocks that East Asian fonts draw wide (Unicode Standard Annex 11), else one.
fn columns(c: char) -> usize {
    let is_wide = matches!(u32::from(c),
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x20000..=0x3fffd);
    1 + usize::from(is_wide)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix_s, expected) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_769_850_300, "2026-01-31 09:05 UTC"),
            (4_107_542_399, "2100-02-28 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(date(unix_s * 1000), expected);
        }
    }

    #[test]
    fn hours_may_have_three_digits() {
        assert_eq!(Instant(360_000_000 + 61_007, '.').to_string(), "100:01:01.007");
    }

    #[test]
    fn scripts_without_spaces_are_broken_between_characters_but_not_before_punctuation() {
        let text = "会議".repeat(10) + "を始めます。";
        let lines: Vec<_> = wrap(&text).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].chars().count(), 21);
        assert!(lines[1].ends_with("す。"));
        assert_eq!(lines.concat(), text);
    }

    proptest! {
        #[test]
        fn wrapping_keeps_every_word_and_leaves_no_blank_line(text in "\\PC{0,200}|[a-z \n\r\t,]{0,300}") {
            let wrapped = wrap(&text);
            let squeezed = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(squeezed(&wrapped), squeezed(&collapse(&text)));
            prop_assert!(wrapped.is_empty() || wrapped.lines().all(|line| !line.trim().is_empty()));
            for line in wrapped.lines() {
                let width: usize = line.chars().map(columns).sum();
                prop_assert!(width <= COLUMNS || !line.contains(' '), "{:?}", line);
            }
        }
    }
}
