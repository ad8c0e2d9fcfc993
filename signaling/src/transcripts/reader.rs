//! Reading: which meetings there are, and what was said in one, page by page.
//!
//! A reader holds no transaction between two pages, so one who reads slowly never keeps SQLite from
//! tidying up.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::schema::{self, OpenError};
use crate::wire::{self, RoomKind};

/// Most meetings in a list, the latest ones.
const MOST_MEETINGS: u32 = 1000;

/// Columns of a meeting, for [`meeting_of`].
const MEETING: &str = "id, room, kind, languages, started_at_ms, ended_at_ms,
    (SELECT count(*) FROM utterances WHERE meeting = meetings.id)";

/// One connection that reads.
#[derive(Debug)]
pub struct Reader(Connection);

/// An utterance as an export gives it out. Times are milliseconds from the meeting's start.
pub type Line = wire::TranscriptLine;

/// A language that nothing of a meeting can be given out in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked:?} is none of this meeting's languages: take one of {known}")]
pub struct UnknownLanguage {
    asked: String,
    known: String,
}

/// Where a page begins: behind this utterance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    started_at_ms: i64,
    id: i64,
}

impl Cursor {
    /// Before the first utterance.
    pub(super) const START: Self = Self { started_at_ms: i64::MIN, id: 0 };
}

impl Reader {
    /// Opens a file that a server made, while it runs or after it.
    ///
    /// # Errors
    /// [`OpenError`] names the file and the remedy.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = schema::open_beside(path)?;
        connection
            .pragma_update(None, "query_only", true)
            .map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })?;
        Ok(Self(connection))
    }

    /// The meetings of a room, or of all rooms, of which something is kept: the latest 1000, the
    /// latest first.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn meetings(&self, room: Option<&str>) -> rusqlite::Result<Vec<wire::Meeting>> {
        let query = format!(
            "SELECT {MEETING} FROM meetings
             WHERE (?1 IS NULL OR room = ?1)
               AND EXISTS (SELECT 1 FROM utterances WHERE meeting = meetings.id)
             ORDER BY id DESC LIMIT ?2"
        );
        self.0.prepare(&query)?.query_map(params![room, MOST_MEETINGS], meeting_of)?.collect()
    }

    /// One meeting of a room: the one with this id, or the latest of which something is kept.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn meeting(&self, room: &str, id: Option<i64>) -> rusqlite::Result<Option<wire::Meeting>> {
        let query = format!(
            "SELECT {MEETING} FROM meetings
             WHERE room = ?1 AND (?2 IS NULL OR id = ?2)
               AND EXISTS (SELECT 1 FROM utterances WHERE meeting = meetings.id)
             ORDER BY id DESC LIMIT 1"
        );
        self.0.query_row(&query, params![room, id], meeting_of).optional()
    }

    /// The meeting with this id, in whatever room.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn meeting_by_id(&self, id: i64) -> rusqlite::Result<Option<wire::Meeting>> {
        let query = format!("SELECT {MEETING} FROM meetings WHERE id = ?1");
        self.0.query_row(&query, [id], meeting_of).optional()
    }

    /// The meeting of a room that was going on at a moment (milliseconds since the Unix epoch), if
    /// something of it is kept. A room's end belongs to it.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn meeting_at(&self, room: &str, at_ms: u64) -> rusqlite::Result<Option<wire::Meeting>> {
        let query = format!(
            "SELECT {MEETING} FROM meetings
             WHERE room = ?1 AND started_at_ms <= ?2 AND coalesce(ended_at_ms, ?2) >= ?2
               AND EXISTS (SELECT 1 FROM utterances WHERE meeting = meetings.id)
             ORDER BY id DESC LIMIT 1"
        );
        let at_ms = super::writer::to_sqlite(at_ms);
        self.0.query_row(&query, params![room, at_ms], meeting_of).optional()
    }

    /// Whether anything said in a meeting is kept.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn has_transcript(&self, meeting: i64) -> rusqlite::Result<bool> {
        self.0.query_row(
            "SELECT EXISTS (SELECT 1 FROM utterances WHERE meeting = ?1)",
            [meeting],
            |row| row.get(0),
        )
    }

    /// Languages that a meeting can be exported in: those of its room, and those that words of it
    /// are kept in.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn languages(&self, meeting: &wire::Meeting) -> rusqlite::Result<BTreeSet<String>> {
        let mut languages: BTreeSet<String> = meeting.languages.iter().cloned().collect();
        let mut query = self.0.prepare(
            "SELECT DISTINCT language FROM utterances WHERE meeting = ?1
             UNION
             SELECT DISTINCT t.language FROM translations t
             JOIN utterances u ON u.id = t.utterance WHERE u.meeting = ?1",
        )?;
        for language in query.query_map([meeting.id], |row| row.get(0))? {
            languages.insert(language?);
        }
        Ok(languages)
    }

    /// The one of [`Reader::languages`] that is meant: two tags are one language when their primary
    /// subtags are.
    ///
    /// # Errors
    /// What SQLite says; within, [`UnknownLanguage`] names those that there are.
    pub fn language(
        &self,
        meeting: &wire::Meeting,
        asked: &str,
    ) -> rusqlite::Result<Result<String, UnknownLanguage>> {
        let known = self.languages(meeting)?;
        let primary = |tag: &str| tag.split('-').next().unwrap_or_default().to_ascii_lowercase();
        let exact = known.iter().find(|tag| tag.eq_ignore_ascii_case(asked));
        let found = exact.or_else(|| known.iter().find(|tag| primary(tag) == primary(asked)));
        Ok(found.cloned().ok_or_else(|| UnknownLanguage {
            asked: asked.to_owned(),
            known: known.into_iter().collect::<Vec<_>>().join(", "),
        }))
    }

    /// The next utterances, in the order in which they began, and where the page after them begins.
    pub(super) fn page(
        &self,
        meeting: &wire::Meeting,
        language: Option<&str>,
        after: Cursor,
        rows: u32,
    ) -> rusqlite::Result<(Vec<Line>, Cursor)> {
        let mut query = self.0.prepare(
            "SELECT u.id, u.started_at_ms, u.ended_at_ms, u.utterance, u.speaker, u.speaker_name,
                    u.language, u.text, t.language, t.text, t.translator
             FROM utterances u
             LEFT JOIN translations t
               ON t.utterance = u.id AND t.language = ?2 AND u.language <> ?2
             WHERE u.meeting = ?1 AND (u.started_at_ms, u.id) > (?3, ?4)
             ORDER BY u.started_at_ms, u.id LIMIT ?5",
        )?;
        let found = query.query_map(
            params![meeting.id, language, after.started_at_ms, after.id, rows],
            |row| {
                let at = Cursor { id: row.get(0)?, started_at_ms: row.get(1)? };
                Ok((line_of(row, meeting)?, at))
            },
        )?;
        let mut lines = Vec::new();
        let mut last = after;
        for line in found {
            let (line, at) = line?;
            lines.push(line);
            last = at;
        }
        Ok((lines, last))
    }
}

fn meeting_of(row: &Row<'_>) -> rusqlite::Result<wire::Meeting> {
    let kind: String = row.get(2)?;
    let languages: String = row.get(3)?;
    Ok(wire::Meeting {
        id: row.get(0)?,
        room: row.get(1)?,
        kind: if kind == "conference" { RoomKind::Conference } else { RoomKind::Call },
        languages: serde_json::from_str(&languages).unwrap_or_default(),
        started_at_ms: from_sqlite(row.get(4)?),
        ended_at_ms: row.get::<_, Option<i64>>(5)?.map(from_sqlite),
        utterances: from_sqlite(row.get(6)?),
    })
}

fn line_of(row: &Row<'_>, meeting: &wire::Meeting) -> rusqlite::Result<Line> {
    let since_start = |at_ms: i64| from_sqlite(at_ms).saturating_sub(meeting.started_at_ms);
    let start_ms = since_start(row.get(1)?);
    // A cue that ends where it begins is none (WebVTT §4.1).
    let end_ms = since_start(row.get(2)?).max(start_ms + 1);
    let spoken_language: String = row.get(6)?;
    let translation: Option<String> = row.get(9)?;
    let has_words = |text: &String| !text.trim().is_empty();
    let (language, text, translator) = match translation.filter(has_words) {
        Some(text) => (row.get(8)?, text, row.get(10)?),
        None => (spoken_language.clone(), row.get(7)?, None),
    };
    Ok(Line {
        utterance: row.get(3)?,
        speaker: row.get(4)?,
        name: row.get(5)?,
        start_ms,
        end_ms,
        spoken_language,
        language,
        text,
        translator,
    })
}

fn from_sqlite(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or_default()
}
